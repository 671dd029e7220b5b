"""What `preset=` measures: which shapes, which lengths, how many pairs."""

from dataclasses import dataclass

from comparison.profiles import PROFILES

REAL = "real"
STEPS = 2  # optimizer steps of one epoch


@dataclass(kw_only=True, slots=True)
class Case:
    """One comparison: a shape on a length profile."""

    shape: str
    profile: str
    n_pairs: int  # of one epoch

    @property
    def name(self) -> str:
        return f"{self.shape}/{self.profile}"

    @property
    def global_batch(self) -> int:
        return self.n_pairs // STEPS

    @property
    def multiple(self) -> int:
        """What `n_pairs` must be a multiple of: steps hold whole prompts."""
        return STEPS * (1 if self.profile == REAL else PROFILES[self.profile].pairs_per_prompt)


@dataclass(kw_only=True, slots=True)
class Preset:
    cases: list[Case]
    precision: str
    micro_batch_tokens: int  # this project's, chosen once for the preset
    batch_sizes: list[int]  # TRL's, pairs per device, among which its best is searched
    repeats: int  # fresh processes of each side per case
    warmup_epochs: int  # in every process, before the clock starts
    checked: list[str]  # shapes whose loss is compared first
    explained: list[str] | None = None  # cases whose causes are measured; null: all
    workers: int = 1
    longest: int = 16384  # tokens of the longest pair


def _cases(shape: str, **pairs: int) -> list[Case]:
    return [Case(shape=shape, profile=profile, n_pairs=count) for profile, count in pairs.items()]


PRESETS = {
    # 2 cores, half an hour to an hour. No warm-up: nothing is compiled, and an epoch takes as long as a warm-up would.
    "cpu": Preset(
        cases=[
            *_cases("small-head", real=12, hh=8, ultrafeedback=8, four=12, agentic2k=4),
            *_cases("large-vocabulary", hh=8),
        ],
        precision="fp32",
        micro_batch_tokens=2048,  # four ranked answers fit into a row; in 1024 they would stand in parts
        batch_sizes=[1, 2, 4],
        repeats=3,
        warmup_epochs=0,
        checked=["small-head", "large-vocabulary"],
        explained=["small-head/hh", "small-head/four"],  # some minutes each
    ),
    # One GPU of 80 GB or more.
    "gpu1": Preset(
        cases=[
            *_cases("1.5b", hh=64, ultrafeedback=32, four=48, agentic8k=8),
            *_cases("7b-lora", ultrafeedback=32),
        ],
        precision="bf16",
        micro_batch_tokens=16384,
        batch_sizes=[2, 4, 8],
        repeats=1,
        warmup_epochs=1,
        checked=["1.5b"],
        explained=["1.5b/ultrafeedback", "1.5b/four"],  # a minute each
    ),
    # 8 GPUs, ZeRO-3 on both sides.
    "node8": Preset(
        cases=_cases("7b", hh=512, ultrafeedback=256, four=384),
        precision="bf16",
        micro_batch_tokens=16384,
        batch_sizes=[1, 2, 4, 8],
        repeats=1,
        warmup_epochs=1,
        checked=["1.5b"],
        explained=[],  # the causes are measured on one worker
        workers=8,
    ),
    # Seconds, for tests.
    "tiny": Preset(
        cases=_cases("tiny", hh=8),
        precision="fp32",
        micro_batch_tokens=1024,
        batch_sizes=[1, 2],
        repeats=1,
        warmup_epochs=0,
        checked=["tiny"],
    ),
}

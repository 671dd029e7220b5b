"""Every setting of a run as a typed dataclass: one class per config group, one more per choice that has its own knobs.

`conf/<group>/<choice>.yaml` fills them in; those of losses are in dpo/config/losses.py. A field's metadata states the
values it may take or its range (dpo/config/fields.py), which `dpo.config.checks` holds in one place for all of them.
"""

from dataclasses import dataclass, field
from typing import Any

from dpo.config.doctor import DoctorConfig
from dpo.config.expect import ExpectConfig
from dpo.config.fields import number, one_of
from dpo.config.losses import LossConfig
from dpo.config.plan import PlanConfig
from dpo.config.shape import ShapeConfig


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The policy: a Hugging Face causal language model, by folder or hub name, or a tiny one built in code."""

    path: str | None = None  # folder or hub name; null with `build`
    revision: str | None = None  # hub branch, tag or commit
    build: str | None = None  # name of a model built in code with random weights: "tiny"
    chat_template: str = "auto"  # auto: the tokenizer's own, else a plain one | raw | a built-in name | a file
    # What the template takes besides messages, by name: model.chat_template_arguments.enable_thinking=false
    chat_template_arguments: dict[str, Any] = field(default_factory=dict)
    # Kept of a layer for backward: none: all | selective: its input and its attention | full: its input alone.
    gradient_checkpointing: str = one_of("none", "none", "selective", "full")
    activation_offload: bool = False  # what is kept waits in the host's memory: saved tensors of 1 MiB and more
    kernels: str = one_of("none", "none", "liger", "hub")  # fused norms, rotary embeddings and SwiGLU; GPU only
    compile: bool = False  # torch.compile of the repeated layers: minutes at the start, faster steps
    dropout: bool = False  # keep the base model's own dropout in training
    trust_remote_code: bool = False  # run Python code that comes with the model
    eos_token: str | None = None  # for a tokenizer that has none: the text of the token that ends a turn
    shape: ShapeConfig | None = None  # for the planner, of a model on the hub; a local folder's config.json needs none


@dataclass(kw_only=True, slots=True)
class ObjectiveConfig:
    """Several qualities per answer (`dimensions` on a row, the attributes of HelpSteer, UltraFeedback's annotations) as
    one score, which says which answer is chosen."""

    weights: dict[str, float] = field(default_factory=dict)  # {helpfulness: 1, verbosity: -0.5}; {}: labels decide
    margin: bool = False  # the difference of the weighted scores is the pair's margin
    # What happens to a pair whose label says otherwise: keep the label | swap the sides | drop the pair. Counted.
    contradicts: str = one_of("swap", "keep", "swap", "drop")


@dataclass(kw_only=True, slots=True)
class SourceConfig:
    """One of several sources of pairs. With neither weight nor count, every pair is seen once per epoch."""

    path: str | None = None  # as data.path
    name: str | None = None  # on every pair, for metrics and reports; null: made from the path
    split: str | None = None  # null: data.split
    revision: str | None = None  # hub branch, tag or commit
    subset: str | None = None  # as data.subset
    data_dir: str | None = None  # as data.data_dir
    format: str | None = None  # null: data.format
    # How often each pair is seen per epoch. 0.5: the pairs of half of its prompts, chosen by their hash, so that more
    # weight only adds to them; 2.5: all pairs twice, and half of them once more.
    weight: float | None = number(None, above=0)
    # This many pairs per epoch, by the hash of their prompts; repeated where there are fewer.
    count: int | None = number(None, low=1)


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where the preference pairs come from and which of them are used."""

    # .jsonl, .json, .csv or .tsv (also with .gz, .bz2, .xz or .zst), .parquet, .arrow or .feather; a folder or a glob
    # of them ("data/*.jsonl"); a folder saved by `datasets`; or a hub name.
    path: str | None = None
    sources: list[SourceConfig] = field(default_factory=list)  # several of them, mixed, instead of `path`
    split: str = "train"  # split of a hub data set, or of a folder that holds several
    subset: str | None = None  # configuration of a hub data set
    data_dir: str | None = None  # folder within a hub data set
    streaming: bool = False  # read hub data sets over the network instead of fetching them to this disk first
    eval_path: str | None = None  # held-out pairs; null: `eval.fraction` of the prompts of `path`
    eval_split: str | None = None  # hub split for held-out pairs; alone, it belongs to `path`
    revision: str | None = None  # hub branch, tag or commit
    demo: int = number(0, low=0)  # > 0: this many demo pairs generated in code instead of `path`
    format: str = "auto"  # auto: recognised by its columns | a name from dpo.data.formats.table
    limit: int | None = number(None, low=1)  # use only the first rows, of each source
    duplicates: str = one_of("drop", "drop", "keep")  # pairs with the same prompt and answers as an earlier one
    # Files of benchmark questions (.txt or as `path`). Training prompts that share 8 words in a row with them are
    # reported; those that hold at least this share of one question's runs of 8 words are left out, if it is set.
    decontaminate: list[str] = field(default_factory=list)
    decontaminate_drop: float | None = number(None, above=0, high=1)
    max_length: int | None = number(None, low=4)  # tokens of prompt + answer; null: the model's context, at most 4096
    max_prompt_length: int | None = number(None, low=1)  # tokens; null: max_length - 1
    # What happens to a longer pair: drop: left out, counted | cut_prompt: its oldest turns go, the system turn stays |
    # cut_answers: its answers lose their ends, not its prompt. What is too long even so is dropped.
    truncation: str = one_of("drop", "drop", "cut_prompt", "cut_answers")
    on_bad_row: str = one_of("error", "error", "skip")
    # Pairs of one prompt (ranked answers) stay in one step and share prompt and answers; loss=sft compares no answers.
    group_by_prompt: bool = True
    # Prompts without roles: a user turn for the chat template | text that the answer continues, without a template |
    # the same, where the control tokens it spells out are meant (known chat markers are recognised without this).
    plain_text: str = one_of("user_turn", "user_turn", "raw", "rendered")
    preference: str = one_of("better", "better", "safer")  # which label of PKU-SafeRLHF: more helpful, or safer
    # Of an answer list with ranks or scores: every pair | the best and the worst | the best and each other one.
    ranked_pairs: str = one_of("all", "all", "best_worst", "best_rest")
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    # Columns ref_chosen_logps and ref_rejected_logps, where rows have them: auto: used instead of computing | ignore
    reference_logps: str = one_of("auto", "auto", "ignore")
    cache_dir: str | None = None  # of prepared pairs, shared by all runs that name it; null: <output_dir>/data_cache
    workers: int | None = number(None, low=1)  # processes that prepare the pairs; null: one per core, at most 32


@dataclass(kw_only=True, slots=True)
class AdapterConfig:
    """Full fine-tuning: no adapter."""

    kind: str = "none"


@dataclass(kw_only=True, slots=True)
class LoraAdapterConfig(AdapterConfig):
    """LoRA (Hu et al. 2021, arXiv:2106.09685): W + (alpha / rank) B A, with A and B trained."""

    kind: str = "lora"
    rank: int = number(16, low=1)
    alpha: float = number(32.0, above=0)
    dropout: float = number(0.0, low=0, high=0.99)
    target_modules: list[str] = field(default_factory=lambda: ["all-linear"])  # names, or all-linear (not the head)


@dataclass(kw_only=True, slots=True)
class ReferenceConfig:
    """The frozen model that the policy is held against."""

    kind: str = one_of("auto", "auto", "sharded", "adapter_off", "none", "cached")
    path: str | None = None  # null: the policy's own starting weights
    revision: str | None = None
    cache_dir: str | None = None  # of `cached`, shared by all runs that name it; null: <output_dir>/reference_cache
    batch_tokens: int | None = number(None, low=1)  # of one forward pass of `cached`; null: 4 or 2 micro-batches' worth
    spot_check: int = number(4, low=0)  # pairs whose own log-probabilities (data.reference_logps) are computed as well


@dataclass(kw_only=True, slots=True)
class MovingReferenceConfig(ReferenceConfig):
    """TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656): the reference follows the policy."""

    kind: str = one_of("moving", "moving")
    sync_every: int = number(512, low=1)  # applied optimizer steps between two moves; the paper's tau
    # reference <- sync_mix * policy + (1 - sync_mix) * reference. 1: hard update; less: soft, the paper's alpha.
    sync_mix: float = number(1.0, above=0, high=1)


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """AdamW, its schedule, and how many pairs make one step."""

    kind: str = one_of("adamw", "adamw", "adamw_8bit")  # adamw_8bit: moments in a quarter of the memory
    lr: float | None = number(None, above=0)  # null: 5e-7 for full fine-tuning, 5e-5 for an adapter
    scheduler: str = one_of("cosine", "cosine", "linear", "constant")  # after the warm-up
    warmup_ratio: float = number(0.1, low=0, high=1)  # share of all steps
    min_lr_ratio: float = number(0.0, low=0, high=1)  # final learning rate / lr
    weight_decay: float = number(0.0, low=0)  # on matrices; never on biases and norms
    beta1: float = number(0.9, low=0, high=0.9999)
    beta2: float = number(0.999, low=0, high=0.99999)
    eps: float = number(1e-8, above=0)
    max_grad_norm: float = number(1.0, low=0)  # 0: no clipping
    epochs: float = number(1.0, above=0)  # fractions too
    max_steps: int | None = number(None, low=1)  # stops earlier than epochs, never later
    global_batch_size: int = number(32, low=1)  # pairs per optimizer step over the whole job
    # Most tokens of one forward pass on one worker; a row shared by n (zero.sequence_parallel) holds n times as many.
    micro_batch_tokens: int = number(8192, low=1)
    micro_batch_pairs: int | None = number(None, low=1)  # most pairs of one forward pass; null: no limit


@dataclass(kw_only=True, slots=True)
class ZeroConfig:
    """How state is spread over the workers. `deepspeed` is DeepSpeed's own configuration, given to it as it is."""

    name: str = "auto"
    stage: int | None = number(None, low=0, high=3)  # null: decided by the number of workers; 0: plain torch
    nvme_path: str | None = None  # folder on a local SSD, for zero=zero3_nvme
    deepspeed: dict[str, Any] = field(default_factory=dict)
    sequence_parallel: int = number(1, low=1)  # workers that share one row, for pairs too long for one; layout=packed
    timeout_seconds: int = number(1800, low=1)  # a collective may take, waiting for the slowest worker included


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    every: int = number(200, low=0)  # steps; 0: only at the end
    keep: int = number(2, low=1)  # newest checkpoints that stay on disk
    # And the best by this held-out metric, among those whose step was evaluated (eval.every); null: none.
    best: str | None = one_of("loss", "loss", "rewards/accuracies", "rewards/margins")
    background: bool = True  # written while training goes on, from a copy: 12 bytes per trained weight over all workers
    # When the run begins to stop, as if asked by a signal: leave room for a micro-batch and a checkpoint. A duration
    # since the start (3h50m, 90s, 3:50:00, 1-12:00:00) or a time (2026-11-21T18:00, of this machine unless it names a
    # zone); auto: two minutes before the end of the Slurm job around it (of short jobs the last tenth), where Slurm
    # tells it in SLURM_JOB_END_TIME; null: never.
    deadline: str | None = "auto"
    # Exit code of a run that stopped on request. 0 tells a scheduler that all is done; one that starts again what ends
    # otherwise (Kubernetes, SkyPilot, a loop) gets a code that no failure has: 75, "try again later" in sysexits.h.
    stopped_code: int = number(0, low=0, high=125)


@dataclass(kw_only=True, slots=True)
class TrackConfig:
    every: int = number(1, low=1)  # steps between logged records
    wandb: str = one_of("auto", "auto", "online", "offline", "off")  # auto: online when an API key is found
    project: str = "dpo"
    entity: str | None = None
    tensorboard: bool = False  # the same numbers in <run>/tensorboard, for `tensorboard --logdir outputs`
    progress: bool = True  # the progress bar


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """Held-out measurement."""

    every: int = number(0, low=0)  # steps; 0: before the first step and after the last
    fraction: float = number(0.05, low=0, high=0.9)  # of the prompts, chosen by hash
    samples: int = number(3, low=0)  # held-out prompts answered before and after training
    kl_prompts: int = number(0, low=0)  # held-out prompts whose answers are drawn for kl/samples, before and after
    max_new_tokens: int = number(128, low=1)
    checker: str = one_of("none", "none", "demo")  # program that judges sampled answers
    checked_prompts: int = number(128, low=0)  # held-out prompts answered for the checker


@dataclass(kw_only=True, slots=True)
class GuardConfig:
    """What happens when numbers or workers go wrong. A bad step (loss or gradient not finite) is never applied."""

    self_check: bool = True  # before the first step: known loss, packed layout against the model's own logits
    # A worker may spend on a micro-batch or a row before all are ended, naming it; null: zero.timeout_seconds / 3.
    hang_seconds: float | None = number(None, above=0)
    max_bad_steps: int | None = number(3, low=1)  # in a row, then `on_bad`; null: each is left out, without end
    on_bad: str = one_of("stop", "stop", "rollback")  # rollback: weights of the newest checkpoint, the data goes on
    max_rollbacks: int = number(2, low=1)  # in a run; after them it stops
    # One warning each, from the training records:
    window: int = number(50, low=20)  # records looked back on
    spike_sigmas: float | None = number(10.0, above=0)  # loss, gradient norm: over the median, in robust deviations
    chosen_drop: float | None = number(0.5, above=0)  # fall of logps/chosen, as a share of its first value
    max_kl: float | None = number(100.0, above=0)  # nats between policy and reference on a chosen answer, the mean


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """One run. Only the assembly (dpo/run.py) sees all of it; each part receives its own section."""

    name: str | None = None  # null: made from the settings that decide the result
    seed: int = number(42, low=0)
    resume: str = "auto"  # auto: continue this run if it has a checkpoint | never | a checkpoint or run folder
    output_dir: str = "outputs"
    precision: str = one_of("fp32", "fp32", "bf16", "fp16")
    layout: str = one_of("packed", "packed", "padded")
    deterministic: bool = False  # debug=deterministic: bit-identical again, where the hardware can
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    expect: ExpectConfig = field(default_factory=ExpectConfig)
    doctor: DoctorConfig = field(default_factory=DoctorConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)

"""What makes a run the run it is: its default name, and whether a checkpoint belongs to it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo.config.compose import as_dict
from dpo.config.inputs import inputs
from dpo.config.schema import RunConfig
from dpo.data.read.listing import short_name

# These change where and how a run computes, or what it writes down, but not what it computes.
PLACE = ("name", "resume", "output_dir")
ELSEWHERE = (*PLACE, "track", "checkpoint", "zero", "guard", "expect", "doctor", "plan")
SAME_NUMBERS = (
    "deterministic",
    "optim.micro_batch_tokens",
    "optim.micro_batch_pairs",
    "model.gradient_checkpointing",
    "model.activation_offload",
    "model.kernels",
    "model.compile",
    "data.streaming",
    "data.cache_dir",
    "data.workers",
    # Which model it is decides, and whether there is one follows from the loss; one that moves has settings of its own.
    "reference.kind",
    "reference.cache_dir",
    "reference.batch_tokens",
    "reference.spot_check",
)
SHAPE = "model.shape"  # what model.path says already
# In a run that continues; and how it is watched: eval.*, but not what is held out.
MAY_CHANGE = ("optim.epochs", "optim.max_steps", "optim.kind")
OF_THE_DATA = (
    "data.",
    "eval.fraction",
    *(f"model.{name}" for name in ("path", "revision", "build", "chat_template", "eos")),
)
LENGTH_NOTE = "; the learning rate follows the schedule of the new length from here"
NOTES = {"optim.epochs": LENGTH_NOTE, "optim.max_steps": LENGTH_NOTE}


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the result, flat: {"loss.beta": 0.1, ...}."""
    flat = _flatten({key: value for key, value in config.items() if key not in ELSEWHERE})
    return {key: value for key, value in flat.items() if key not in SAME_NUMBERS and not key.startswith(SHAPE)}


def run_name(config: RunConfig) -> str:
    """`name`, or one made from the settings that decide the result and from the content of local files, so that two
    different runs never share a folder and the same command finds its own again."""
    if config.name:
        return config.name
    digest = _digest([identity(as_dict(config)), inputs(config)])
    model = config.model.build or _label(config.model.path)
    return f"{model}-{_data_label(config)}-{config.loss.name}-{digest}"


def data_name(config: RunConfig) -> str:
    """Made from what decides the pairs and their tokens: the data, its files' content, tokenizer and template."""
    settings = {key: value for key, value in identity(as_dict(config)).items() if key.startswith(OF_THE_DATA)}
    return f"{_data_label(config)}-{_digest([settings, inputs(config)])}"


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _data_label(config: RunConfig) -> str:
    if config.data.sources:
        return f"mix-of-{len(config.data.sources)}"
    return "demo" if config.data.demo else _label(short_name(config.data.path or "none"))


@dataclass(kw_only=True, slots=True)
class Changes:
    """How the settings of a continued run differ from those it began with: one line per setting, with both values."""

    refused: list[str]  # they would make it another run
    allowed: list[str]


def changes(
    saved: dict[str, Any], now: dict[str, Any], saved_inputs: dict[str, str], inputs_now: dict[str, str]
) -> Changes:
    """Compare two configurations, and what the local files that they name hold (`inputs`): a file may move, and may
    not change."""
    before, after = _flatten(saved), _flatten(now)
    decisive = identity(saved).keys() | identity(now).keys()
    # Another file of conf/zero brings another dictionary for DeepSpeed: its name says it all.
    told = ("zero.stage", "zero.deepspeed.") if before.get("zero.name") != after.get("zero.name") else ()
    found = Changes(refused=[], allowed=[])
    for key in sorted(before.keys() | after.keys()):
        if key in PLACE or key.startswith(told):
            continue
        old, new = before.get(key), after.get(key)
        held, holds = saved_inputs.get(key), inputs_now.get(key)
        if old == new and None not in (held, holds) and held != holds:
            found.refused.append(f"{key}: {new} holds something else now than in the checkpoint's run")
        elif old != new:
            line = f"{key}: {old} in the checkpoint, {new} now"
            if key in decisive and not _may_change(key) and (held is None or held != holds):
                found.refused.append(line)
            else:
                found.allowed.append(f"{line}: goes on{NOTES.get(key, '')}")
    return found


def _may_change(key: str) -> bool:
    return key in MAY_CHANGE or (key.startswith("eval.") and key != "eval.fraction")


def _label(path: str | None) -> str:
    parts = Path(path or "none").parts
    name = parts[-2] if parts[-1] == "final" and len(parts) > 1 else parts[-1]
    return name[:40]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {f"{i}": item for i, item in enumerate(value)}  # data.sources, each with settings of its own
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat

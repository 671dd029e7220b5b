"""The README.md of an exported model: what it was made from, how, and what was measured. The hub shows it."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from dpo import __version__
from dpo.config.compose import as_yaml
from dpo.config.losses import LossConfig, MixLossConfig, SigmoidLossConfig
from dpo.config.schema import RunConfig
from dpo.losses.kind import implicit_rewards
from dpo.losses.term import terms_of
from dpo.report import render_table

FILES = (".json", ".jsonl", ".parquet", ".gz")  # that have gone since the run started are still no hub names
LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed", "peft")
_HUB_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")  # "gpt2" has no owner
REWARDS = " Rewards are beta (log pi - log pi_ref), summed over the tokens of an answer."
OWN_REWARDS = " Rewards are those that the loss itself compares."


def model_card(config: RunConfig, rows: list[dict[str, Any]]) -> str:
    """Markdown with the hub's YAML head. `rows`: the run's records. Holds no secret: the settings are redacted, and
    names of local folders, which mean nothing to others, are shown in the settings only."""
    return CARD.format(
        head=_head(config).to_yaml(),
        method=_method(config),
        rewards=_rewards(config.loss),
        table=render_table(rows),
        versions=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        own_version=__version__,
        settings=as_yaml(config).rstrip(),
    )


def _head(config: RunConfig) -> ModelCardData:
    model, data = _hub_name(config.model.path), _hub_name(config.data.path)
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=model,
        datasets=[data] if data else None,
        tags=["preference-optimization", config.loss.name],
    )


def _method(config: RunConfig) -> str:
    built = f"the {config.model.build} model built in code" if config.model.build else "a local model"
    data = "generated demo pairs" if config.data.demo else _hub_name(config.data.path) or "local files"
    adapter = "all weights" if config.adapter.kind == "none" else f"{config.adapter.kind}, merged; alone in `adapter/`"
    lines = {
        "Base model": _hub_name(config.model.path) or built,
        "Preference pairs": data,
        "Loss": _loss(config.loss),
        "Trained": adapter,
    }
    return "\n".join(f"- {name}: {value.rstrip('.')}." for name, value in lines.items())


def _loss(loss: LossConfig) -> str:
    """Its name and who proposed it; of a mix every term with its weight."""
    found = []
    for term in terms_of(loss):
        weight = f"{term.weight:g} x " if isinstance(loss, MixLossConfig) else ""
        found.append(f"{weight}{term.kind.name} ({term.kind.paper})")
    return " + ".join(found)


def _rewards(loss: LossConfig) -> str:
    """What rewards are, where the loss has any."""
    term = next((term for term in terms_of(loss) if term.kind.rewards), None)
    if term is None:
        return ""
    of_dpo = isinstance(term.knobs, SigmoidLossConfig) and term.knobs.f_divergence == "reverse_kl"
    return REWARDS if of_dpo or term.kind.rewards is implicit_rewards else OWN_REWARDS


def _hub_name(path: str | None) -> str | None:
    """`path` when it is the name of something on the hub rather than of a file or folder here."""
    if not path or not _HUB_NAME.fullmatch(path) or path.startswith(".") or path.endswith(FILES) or Path(path).exists():
        return None
    return path


CARD = """\
---
{head}
---

# A model trained on preference pairs

{method}

## What was measured

Held-out pairs were not trained on.{rewards}

```
{table}
```

## How it was made

dpo {own_version}, {versions}.

<details><summary>All settings</summary>

```yaml
{settings}
```

</details>
"""

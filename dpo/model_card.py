"""The README.md of an exported model: what it was made from, how, and what was measured. The hub shows it."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from dpo import __version__
from dpo.config.compose import as_yaml
from dpo.config.schema import RunConfig
from dpo.data.read.listing import is_local
from dpo.losses.term import terms_of
from dpo.report import render_table

LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed", "peft")
_HUB_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")  # "gpt2" has no owner
REWARDS = " Rewards are what the loss compares: for most, beta (log pi - log pi_ref) of an answer."


def model_card(config: RunConfig, rows: list[dict[str, Any]]) -> str:
    """Markdown with the hub's YAML head. `rows`: the run's records. Holds no secret: the settings are redacted, and
    names of local folders, which mean nothing to others, are shown in the settings only."""
    return CARD.format(
        head=_head(config).to_yaml(),
        method=_method(config),
        rewards=REWARDS if any(name.startswith("rewards/") for row in rows for name in row) else "",
        table=render_table(rows),
        versions=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        own_version=__version__,
        settings=as_yaml(config).rstrip(),
    )


def _head(config: RunConfig) -> ModelCardData:
    data = _hub_data(config)
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=_hub_model(config),
        datasets=data or None,
        tags=["preference-optimization", config.loss.name],
    )


def _method(config: RunConfig) -> str:
    built = f"the {config.model.build} model built in code" if config.model.build else "a local model"
    data = "generated demo pairs" if config.data.demo else ", ".join(_hub_data(config)) or "local files"
    adapter = "all weights" if config.adapter.kind == "none" else f"{config.adapter.kind}, merged; alone in `adapter/`"
    lines = {
        "Base model": _hub_model(config) or built,
        "Preference pairs": data,
        "Loss": _losses(config),
        "Trained": adapter,
    }
    return "\n".join(f"- {name}: {value.rstrip('.')}." for name, value in lines.items())


def _losses(config: RunConfig) -> str:
    terms = terms_of(config.loss)
    weights = [f"{term.weight:g} " if len(terms) > 1 else "" for term in terms]
    return " + ".join(f"{weight}{term.name} ({term.kind.paper})" for weight, term in zip(weights, terms, strict=True))


def _hub_model(config: RunConfig) -> str | None:
    path = config.model.path
    return path if path and _HUB_NAME.fullmatch(path) and not Path(path).exists() else None


def _hub_data(config: RunConfig) -> list[str]:
    paths = [config.data.path, *(source.path for source in config.data.sources)]
    return [path for path in paths if path and not is_local(path)]


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

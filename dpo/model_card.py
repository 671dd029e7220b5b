"""The README.md of an exported model: what it was made from, how, and what was measured. The hub shows it."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from dpo import __version__
from dpo.config.compose import as_yaml
from dpo.config.schema import RunConfig
from dpo.report import render_table

LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed", "peft")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(config: RunConfig, rows: list[dict[str, Any]]) -> str:
    """Markdown with the hub's YAML head. `rows`: the run's records. Holds no secret: the settings are redacted, and
    names of local folders, which mean nothing to others, are shown in the settings only."""
    return CARD.format(
        head=_head(config).to_yaml(),
        method=_method(config),
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
    base = _hub_name(config.model.path) or "a base model of its author's own"
    data = _hub_name(config.data.path) or ("generated demo pairs" if config.data.demo else "pairs of its author's own")
    adapter = "all weights" if config.adapter.kind == "none" else f"{config.adapter.kind}, merged; alone in `adapter/`"
    return f"Base model: {base}. Preference pairs: {data}. Loss: {config.loss.name}. Trained: {adapter}."


def _hub_name(path: str | None) -> str | None:
    """`path` when it is the name of something on the hub rather than of a file or folder here."""
    return path if path and _HUB_NAME.fullmatch(path) and not Path(path).exists() else None


CARD = """\
---
{head}
---

# A model trained on preference pairs

{method}

## What was measured

Held-out pairs were not trained on. Rewards are beta (log pi - log pi_ref), summed over the tokens of an answer.

```
{table}
```

## How it was made

dpo {own_version}, {versions}. Direct Preference Optimization: Rafailov et al. 2023, arXiv:2305.18290.

<details><summary>All settings</summary>

```yaml
{settings}
```

</details>
"""

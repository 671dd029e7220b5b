"""Prepared pairs for tests: rows in a file, a tiny tokenizer, and an account that is held to be right."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from data_tokenizers import CHATML, tiny_tokenizer

from dpo.config.schema import DataConfig
from dpo.data.prepare import prepare
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template


def write(path: Path, values: list[dict[str, Any]]) -> str:
    """JSON lines; the path as settings take it."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


@cache
def _tokenizer() -> Any:
    return tiny_tokenizer(template=CHATML)


def tools(**limits: Any) -> Tools:
    return Tools(
        tokenizer=_tokenizer(),
        template=choose_template(_tokenizer(), "auto"),
        limits=TokenLimits(**{"max_length": 999, **limits}),
    )


def prepared(config: DataConfig, fraction: float, cache: Path, **limits: Any) -> DataSets:
    """Every row must be accounted for, whatever the test is about."""
    sets = prepare(config, fraction, tools(**limits), Place(cache=cache, shown=False))
    assert sets.rows_read == sets.accepted + sets.rejected + sets.dropped
    return sets

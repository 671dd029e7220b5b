"""Every number that the code writes into a record stands in the table, and nothing else does."""

import ast
import re
from pathlib import Path

import pytest

from dpo.config.losses import MixLossConfig, SigmoidLossConfig
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES
from dpo.metric_table import ADDRESS, METRICS, metric, metric_table
from dpo.metrics import MEANS, StepStats

pytestmark = pytest.mark.unit

PACKAGE = Path(__file__).parents[2] / "dpo"


def literals(file: str) -> set[str]:
    """Keys of dictionary displays in a module, and the beginnings of those that are put together."""
    keys = [
        key
        for node in ast.walk(ast.parse((PACKAGE / file).read_text()))
        if isinstance(node, ast.Dict | ast.DictComp)
        for key in (node.keys if isinstance(node, ast.Dict) else [node.key])
    ]
    plain = {key.value for key in keys if isinstance(key, ast.Constant)}
    built = {
        key.values[0].value + "<x>"
        for key in keys
        if isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant)
    }
    return {key for key in plain | built if isinstance(key, str)}


def trained_keys() -> set[str]:
    """Of dpo/trainer.py's records, and of what evaluation adds to them."""
    trainer = literals("trainer.py") - {"progress", "engine", "loss", "window"}  # what a checkpoint keeps
    samples = {key for key in literals("evaluate/samples.py") if "/" in key}
    return trainer | samples | literals("evaluate/drift.py")


def measured_keys() -> set[str]:
    """Of dpo/metrics.py, over all losses."""
    mix = MixLossConfig(terms=[{"name": "sigmoid"}, {"name": "kto"}])
    found = {"loss", *MEANS}
    for knobs in (*(kind.knobs() for kind in LOSSES.values()), mix):
        stats = StepStats(Loss(knobs), datasets=("a", "b"))
        stats.sums += 1
        found |= set(stats.record())
    return found


def beta_keys() -> set[str]:
    one = Loss(SigmoidLossConfig(beta_final=0.2)).betas
    return set(one) | set(Loss(MixLossConfig(terms=[{"name": "sigmoid", "beta_final": 0.2}, {"name": "sft"}])).betas)


def test_every_number_is_in_the_table() -> None:
    written = trained_keys() | measured_keys() | beta_keys()
    assert len(written) > 30
    assert sorted(key for key in written if metric(key) is None and key not in ADDRESS) == []


def test_nothing_in_the_table_is_never_written() -> None:
    written = trained_keys() | measured_keys() | beta_keys()
    known = {found.name for key in written if (found := metric(key))}
    assert sorted({m.name for m in METRICS} - known) == []


def test_a_key_belongs_to_one_row() -> None:
    for row in METRICS:
        key = re.sub(r"<[\w ]+>", "word", row.name)
        assert metric(key) is row, key
    assert metric("rewards") is None and metric("samples/") is None


def test_the_table_is_markdown_of_equal_rows() -> None:
    lines = metric_table().splitlines()
    assert len(lines) == len(METRICS) + 2
    assert {line.count(" | ") for line in lines} == {4}

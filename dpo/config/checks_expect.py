"""Checks of what an experiment expects: metrics that exist, and bands that something can lie in."""

import difflib
from collections.abc import Iterator

from dpo.config.expect import ExpectConfig
from dpo.metric_table import METRICS, metric


def expect_problems(expect: ExpectConfig) -> Iterator[str]:
    names = [known.name for known in METRICS if known.held_out]
    for name, band in expect.held_out.items():
        known = metric(name)
        if known is None or not known.held_out:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            meant = f" Did you mean {close[0]}?" if close else ""
            yield f"expect.held_out.{name}: no number of held-out records.{meant} There are: {', '.join(names)}"
        if not band.low <= band.high:
            yield f"expect.held_out.{name}: low={band.low:g} is above high={band.high:g}: swap them"
    if expect.held_out and not expect.experiment:
        yield "expect.held_out without expect.experiment: name the file of conf/experiment that these numbers are of"

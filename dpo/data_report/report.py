"""The report as one value, and the files it becomes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo.data.findings.findings import Finding, Verdict
from dpo.data.findings.measure import Measured
from dpo.data.pair import Reject
from dpo.data_report.shown import ShownPair

SCHEMA = 1  # of the JSON: counts up when a key goes or changes its meaning; new keys may come


@dataclass(kw_only=True, slots=True)
class DataReport:
    """What was found in the data of one run's settings."""

    title: str  # of the data
    made: str  # date and time
    settings: dict[str, str]  # that decide the numbers, for the reader: tokenizer, template, limits, files
    verdict: Verdict
    findings: list[Finding]
    measured: Measured
    pairs: list[ShownPair]  # the most suspicious, the worst first
    rejects: list[Reject]  # the first bad rows

    def as_json(self) -> dict[str, Any]:
        """Plain values with stable keys; `pairs` stand for the numbers of `measured.suspects`."""
        plain = {"schema": SCHEMA, **asdict(self)}
        del plain["measured"]["suspects"]
        return plain


def write(report: DataReport, page: str, path: Path) -> tuple[Path, Path]:
    """`<path>.html` and `<path>.json`, each replaced whole; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = json.dumps(report.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    written = []
    for suffix, content in ((".html", page), (".json", values)):
        file = path.with_name(path.name + suffix)
        half = file.with_name(file.name + ".part")
        half.write_text(content, encoding="utf-8", errors="replace")  # halves of surrogate pairs in a decoded text
        half.replace(file)
        written.append(file)
    return written[0], written[1]

"""`python -m dpo report`: what is in the data and what is wrong with it, as a page and as JSON. No weights, no GPU."""

import logging
from datetime import datetime
from pathlib import Path

from dpo.build_data import Text, obtain_data
from dpo.config.compose import Composed
from dpo.config.derive import reports_dir
from dpo.config.identity import data_name
from dpo.config.schema import RunConfig
from dpo.data.findings.findings import findings, lines, verdict
from dpo.data.findings.prepared import columns_of, measure_sets
from dpo.data_report.page import ANSWERS, render
from dpo.data_report.report import DataReport, write
from dpo.data_report.shown import shown_pair
from dpo.preempt import Stopped, StopRequest
from dpo.start import prepare

log = logging.getLogger(__name__)


def report_data(composed: Composed, stop: StopRequest) -> str:
    """Write the report; returns what the command says, also when stopped on request.

    Raises:
        UserError: settings that contradict each other, no such data or tokenizer, no pair within the limits.
    """
    config = composed.config
    _, text = prepare(composed)
    if config.model.build:
        log.info("lengths are counted with the demo's tokenizer: model.path=<folder or hub name> names your model's")
    try:
        report = _make(config, text, stop)
    except Stopped:
        return f"stopped: {stop.reason}\n"
    page, values = write(report, render(report), Path(reports_dir(config)) / data_name(config))
    words, _ = ANSWERS[report.verdict.answer]
    others = [finding for finding in report.findings if finding.key != "length"]  # which the verdict tells already
    told = [f"Will this data teach length instead of quality? {words} {report.verdict.sentence}", *lines(others)]
    return "\n".join([*told, str(page), str(values), ""])


def _make(config: RunConfig, text: Text, stop: StopRequest) -> DataReport:
    sets = obtain_data(config, text, None, stop)
    sets.require_training_pairs()
    columns, measured = columns_of(sets), stop.alone(lambda: measure_sets(sets, text.plain))
    return DataReport(
        title=_title(config),
        made=datetime.now().astimezone().isoformat(" ", "minutes"),
        settings={
            "path": config.data.path or "made by code",
            "tokenizer": config.model.path or f"model={config.model.build}",
            "notes": "; ".join(line.removeprefix("data: ") for line in sets.notes),
        },
        verdict=verdict(measured),
        findings=findings(measured),
        measured=measured,
        pairs=[shown_pair(suspect, columns, text.decode) for suspect in measured.suspects],
        rejects=sets.rejects.first,
    )


def _title(config: RunConfig) -> str:
    path = config.data.path
    return "the demo pairs" if path is None else Path(path).name if Path(path).exists() else path

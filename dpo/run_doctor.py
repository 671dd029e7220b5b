"""`python -m dpo doctor`: a report of one line per finding, and whether a job may start."""

import json
import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

from dpo.config.checks import check
from dpo.config.compose import Composed
from dpo.config.doctor import CHECKS
from dpo.config.schema import RunConfig
from dpo.doctor.examine import examine
from dpo.doctor.finding import FAIL, OK, WARN, Finding, Job
from dpo.redact import redact
from dpo.track.choose import wanted_mode

CURE = " " * 11 + "-> "


def run_doctor(composed: Composed) -> bool:
    """Write the report to stdout, each line as soon as it is known. Returns whether the node is fit.

    Raises:
        ConfigError: settings that contradict each other.
    """
    config, settings = composed.config, composed.config.doctor
    check(config)
    names = [name for name in CHECKS if not settings.checks or name in settings.checks]
    lines = settings.json != "-"
    if lines:
        _say(f"{socket.gethostname()}: {len(names)} checks")
    found: list[tuple[str, Finding]] = []
    for name, findings in examine(names, _job(config)):
        for finding in findings:
            finding = Finding(**redact(asdict(finding), os.environ))
            found.append((name, finding))
            if lines:
                _say(_line(name, finding))
    levels = [finding.level for _, finding in found]
    fit = FAIL not in levels and not (settings.strict and WARN in levels)
    if lines:
        _say(_verdict(levels, fit))
    if settings.json:
        _write(settings.json, found, fit)
    return fit


def _job(config: RunConfig) -> Job:
    """What the run of these settings will ask for."""
    data, zero = config.data, config.zero.deepspeed.get("zero_optimization", {})
    sources = [data.path, data.eval_path, *(source.path for source in data.sources)]
    on_host = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    return Job(
        path=Path(config.doctor.path or config.output_dir),
        free_gb=config.doctor.free_gb,
        nvme_path=Path(config.zero.nvme_path) if config.zero.nvme_path else None,
        gpus=config.doctor.gpus,
        offload=on_host,
        wandb=wanted_mode(config.track.wandb, os.environ),
        models=[path for path in (config.model.path, config.reference.path) if path],
        data=[path for path in sources if path],
    )


def _line(name: str, finding: Finding) -> str:
    width = max(len(name) for name in CHECKS)
    line = f"{finding.level:<5}{name:<{width}}  {finding.text}"
    return f"{line}\n{CURE}{finding.cure}" if finding.cure else line


def _verdict(levels: list[str], fit: bool) -> str:
    counts = ", ".join(f"{levels.count(level)} {level}" for level in (OK, WARN, FAIL))
    return f"{counts}: {'fit for a job' if fit else 'not fit for a job'}"


def _write(target: str, found: list[tuple[str, Finding]], fit: bool) -> None:
    report = {
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "fit": fit,
        "findings": [{"check": name, **asdict(finding)} for name, finding in found],
    }
    if target == "-":
        _say(json.dumps(report))  # one line: of the nodes of a job none is torn apart
    else:
        Path(target).write_text(json.dumps(report, indent=2) + "\n")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

"""The end of a run as the user sees it: the table, the picture, answers before and after, where everything lies."""

import json
import sys
from typing import Any

from dpo.records import RunFolder, read_metrics
from dpo.report import plot_curves, render_table

SHOWN = 160  # characters of a prompt or answer


def report(folder: RunFolder) -> str:
    """The closing text of a finished run, made from its files alone; draws plots/curves.png on the way."""
    rows = read_metrics(folder.metrics)
    curves = folder.plots / "curves.png"
    parts = [render_table(rows)]
    if shares := _verdicts(rows):
        parts.append(shares)
    if answers := _answers(folder):
        parts.append(answers)
    places = [f"  metrics     {folder.metrics}", f"  model       {folder.final}", f"  checkpoints {folder.checkpoints}"]
    if plot_curves(rows, curves, title=folder.name):
        places.insert(0, f"  curves      {curves}")
    parts.append("\n".join(places))
    parts.append(_how_to_load(folder))
    return "\n\n".join(parts) + "\n"


def show(folder: RunFolder) -> None:
    sys.stdout.write("\n" + report(folder))
    sys.stdout.flush()


def _verdicts(rows: list[dict[str, Any]]) -> str | None:
    """The share of answers per verdict, before and after."""
    judged = [row for row in rows if any(key.startswith("samples/") for key in row)]
    if not judged:
        return None
    first, last = judged[0], judged[-1]
    names = sorted(key for key in last if key.startswith("samples/"))
    lines = [f"Answers to held-out prompts, judged by a program (step {first['step']} -> step {last['step']}):"]
    lines += [f"  {n.removeprefix('samples/'):<12} {first[n]:6.1%} -> {last[n]:6.1%}" for n in names if n in first]
    return "\n".join(lines)


def _answers(folder: RunFolder) -> str | None:
    """Each sampled prompt with its first and its last answer."""
    lines = folder.samples.read_text(encoding="utf-8").splitlines() if folder.samples.is_file() else []
    if not lines:
        return None
    records = [json.loads(line) for line in lines]
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_prompt.setdefault(record["id"], []).append(record)
    lines = ["Answers before and after:"]
    for answers in by_prompt.values():
        lines.append(f"  prompt  {_short(answers[0]['prompt'])}")
        lines.append(f"  before  {_short(answers[0]['answer'])}")
        lines.append(f"  after   {_short(answers[-1]['answer'])}\n")
    return "\n".join(lines).rstrip()


def _how_to_load(folder: RunFolder) -> str:
    return (
        "Load it:\n"
        "  from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f'  model = AutoModelForCausalLM.from_pretrained("{folder.final}")\n'
        f'  tokenizer = AutoTokenizer.from_pretrained("{folder.final}")'
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."

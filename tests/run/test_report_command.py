"""`python -m dpo report`, and the findings that a run tells at its start."""

import json
import logging
import re
from pathlib import Path

import pytest

from dpo import cli
from launch import dpo

pytestmark = pytest.mark.run

TOPICS = ("rain", "wind", "gold", "bread", "music", "stone", "river", "cloud")


def biased(count: int = 160) -> list[dict[str, str]]:
    """The longer answer is always chosen, and one pair in four comes again the other way round."""
    rows = []
    for n in range(count):
        topic = f"{TOPICS[n % 8]}{n}"
        short = f"The {topic} is what it is in the year {n}."
        long = f"{short} It was so for a long time, and the people of the {topic} know it well."
        rows.append({"prompt": f"What is the story of the {topic}?", "chosen": long, "rejected": short})
        if n % 4 == 0:
            rows.append({"prompt": rows[-1]["prompt"], "chosen": short, "rejected": long})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_writes_a_page_and_a_json(tmp_path: Path) -> None:
    """With rows that would stop a run, and without the folder of one."""
    bad = [{"prompt": "What?", "chosen": "", "rejected": "no"}, {"prompt": "<script>", "chosen": "a", "rejected": "a"}]
    data = write(tmp_path / "pairs.jsonl", [*biased(), *bad])
    code, said = dpo(1, "report", f"data.path={data}", "output_dir=out", cwd=tmp_path)
    assert code == 0, said
    (page,) = (tmp_path / "out" / "data_reports").glob("pairs-*.html")
    values = json.loads(page.with_suffix(".json").read_text())
    assert sorted(path.name for path in page.parent.iterdir()) == [page.name, f"{page.stem}.json"]
    assert not list((tmp_path / "out").glob("*-sigmoid-*"))  # the folder of a run
    assert values["verdict"]["answer"] == "yes" and values["verdict"]["sentence"] in said
    assert values["findings"][0]["key"] == "conflict" and values["measured"]["faults"]["conflict"] == 80
    assert values["measured"]["rejects"] == {"empty answer": 1, "chosen equals rejected": 1}
    assert values["measured"]["rows_read"] == 202 == values["measured"]["pairs"] + 2
    assert str(page.relative_to(tmp_path)) in said and "a.jsonl" not in said
    html = page.read_text()
    assert "pairs.jsonl:202: chosen equals rejected" in html and "<script" not in html


def test_a_run_tells_the_worst_findings_at_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its number and what to do; nothing where there is nothing."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    caplog.set_level(logging.INFO, "dpo")

    def told(rows: list[dict[str, str]]) -> list[logging.LogRecord]:
        caplog.clear()
        data = write(tmp_path / "pairs.jsonl", rows)
        assert cli.command_line(["plan-step", "1", f"data.path={data}", f"output_dir={tmp_path}"]) == 0
        return [record for record in caplog.records if " -> " in record.message]

    found = told(biased())
    assert [record.levelname for record in found] == ["WARNING"] * 2
    assert found[0].message.startswith("data: 40 % of the pairs (80): another pair has the same prompt")
    assert all(re.search(r"\d %.* -> \w", record.message) for record in found)
    assert "python -m dpo report" in caplog.text
    fair = [
        row if n % 2 else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        for n, row in enumerate(biased())
    ]
    assert told([row for row in fair if row["prompt"][-2] in "13579"]) == [] and "dpo report" not in caplog.text


def test_words_are_refused(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(logging.getLogger("dpo"), "propagate", True)
    assert cli.command_line(["report", "outputs/run"]) == 2
    assert "outputs/run" in caplog.text

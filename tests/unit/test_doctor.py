"""`python -m dpo doctor`: its report, its exit code, and that it ends in time whatever hangs."""

import json
import time
from pathlib import Path

import pytest

from dpo import cli
from dpo.config.doctor import CHECKS
from dpo.doctor import examine as examining
from dpo.doctor.examine import examine
from dpo.doctor.finding import Finding, Job, fail, ok, warn
from dpo.doctor.table import TABLE, Check

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's logging stays as it is."""
    monkeypatch.setattr(cli, "setup_logging", lambda is_main: None)


def doctor(capsys: pytest.CaptureFixture[str], *settings: str) -> tuple[int, str]:
    code = cli.command_line(["doctor", *settings])
    return code, capsys.readouterr().out


def finds(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    """The check of versions finds this."""
    monkeypatch.setitem(TABLE, "versions", Check(run=lambda job: list(findings)))


def test_every_check_has_a_function_and_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(TABLE) == CHECKS
    _, usage = doctor(capsys, "--help")
    assert [name for name in CHECKS if f"\n{name} " not in usage] == []


@pytest.mark.parametrize(
    ("finding", "settings", "code"),
    [
        (ok("fine"), [], 0),
        (warn("odd", "cure it"), [], 0),
        (warn("odd", "cure it"), ["doctor.strict=true"], 1),
        (fail("broken", "cure it"), [], 1),
    ],
)
def test_exit_code_and_line(
    finding: Finding,
    settings: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finds(monkeypatch, finding)
    found, report = doctor(capsys, "doctor.checks=[versions]", *settings)
    assert found == code
    assert f"{finding.level:<5}versions   {finding.text}\n" in report
    assert finding.level == "ok" or "\n           -> cure it\n" in report
    assert report.endswith("not fit for a job\n" if code else ": fit for a job\n")


def test_json_beside_the_lines_and_instead_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(monkeypatch, ok("fine"), fail("broken", "cure it"))
    file = tmp_path / "report.json"
    assert doctor(capsys, "doctor.checks=[versions]", f"doctor.json={file}")[1].count("\n") == 5
    code, alone = doctor(capsys, "doctor.checks=[versions]", "doctor.json=-")
    for report in (json.loads(file.read_text()), json.loads(alone)):
        assert code == 1 and report["fit"] is False
        assert [(f["check"], f["level"]) for f in report["findings"]] == [("versions", "ok"), ("versions", "fail")]
        assert report["findings"][1]["cure"] == "cure it"


def test_secrets_stay_off_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-key-of-a-user")
    finds(monkeypatch, fail("refused planted-key-of-a-user", "ask for planted-key-of-a-user"))
    for target in ("null", "-"):
        assert "planted" not in doctor(capsys, "doctor.checks=[versions]", f"doctor.json={target}")[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("doctor.checks=[gpu,disk]", "doctor.checks has gpu: no such check"),
        ("doctor.json=/no/such/folder/report.json", "there is no folder /no/such/folder"),
        ("doctor.gpus=-1", "must be at least 0"),
    ],
)
def test_wrong_settings(settings: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("dpo").propagate = True
    assert cli.command_line(["doctor", settings]) == 2
    assert said in caplog.text


def test_a_check_that_hangs_or_breaks_is_one_line_and_the_others_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(job: Job) -> list[Finding]:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(
        examining,
        "TABLE",
        {
            "hangs": Check(run=lambda job: time.sleep(600) or [], seconds=0.3),
            "breaks": Check(run=breaks),
            "measures": Check(run=lambda job: [ok("measured")], measures=True),
            "fine": Check(run=lambda job: [ok("fine")]),
        },
    )
    found = dict(examine(["hangs", "breaks", "measures", "fine"], Job(path=Path())))
    assert list(found) == ["hangs", "breaks", "measures", "fine"]
    assert found["hangs"][0].level == "fail" and "no answer within" in found["hangs"][0].text
    assert found["breaks"][0].level == "fail" and "ZeroDivisionError: by zero" in found["breaks"][0].text
    assert found["measures"] == [ok("measured")] and found["fine"] == [ok("fine")]


def test_all_of_it_together_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check that measures may take what is left, and no more."""
    given: list[float] = []
    slow = Check(run=lambda job: [], seconds=40, measures=True)
    monkeypatch.setattr(examining, "TABLE", dict.fromkeys("abc", slow))
    now = iter([0.0, 0.0, 40.0, 80.0])
    monkeypatch.setattr(examining.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(examining, "within", lambda seconds, call: given.append(seconds) or call())
    assert [found for _, found in examine(["a", "b", "c"], Job(path=Path()))] == [[], [], []]
    assert given == [40.0, examining.ALL_SECONDS - 40.0, 0.1]

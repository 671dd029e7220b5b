"""What is seen of the progress: a bar that log lines do not tear, plain lines where there is no terminal."""

import io
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from dpo.log import setup_logging
from dpo.progress import LINE_SECONDS, Counting, Progress, describe

RECORD = {
    "step": 1,
    "split": "train",
    "loss": 0.6123,
    "rewards/margins": 0.25,
    "rewards/accuracies": 0.75,
    "pairs_per_second": 38.14,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds under the test's control."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Logger "dpo" as it was before the test, and the environment that setup_logging changes."""
    found = logging.getLogger("dpo")
    state = (found.handlers[:], found.level, found.propagate)
    found.handlers[:] = []
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with warnings.catch_warnings():
        yield found
    found.handlers[:], found.propagate = state[0], state[2]
    found.setLevel(state[1])


def plain_handler(logger: logging.Logger, stream: io.StringIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[dpo] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def test_a_log_file_gets_plain_lines_every_ten_seconds_and_at_the_end(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    plain_handler(logger, stream)
    progress = Progress(60, stream=stream, clock=clock)
    for step in range(1, 61):
        clock.now += 0.5
        progress.update(step, RECORD)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["1/60", "21/60", "41/60", "60/60"]
    assert lines[1] == "[dpo] step 21/60  loss 0.6123  margin 0.250  accuracy 0.75  38.1 pairs/s  0:00:19 left"
    assert "left" not in lines[-1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", stream.getvalue())
    assert LINE_SECONDS == 10.0


def test_time_left_after_a_resume_counts_only_this_process(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    plain_handler(logger, stream)
    progress = Progress(200, start_step=100, stream=stream, clock=clock)
    clock.now += 60
    progress.update(110, RECORD)
    assert stream.getvalue().rstrip().endswith("0:09:00 left")


def test_a_terminal_gets_a_bar_and_log_lines_stand_above_it(logger: logging.Logger) -> None:
    terminal = Terminal()
    plain_handler(logger, terminal)
    original = logger.handlers[0]
    with Progress(10, start_step=4, stream=terminal) as progress:
        for step in range(5, 11):
            progress.update(step, RECORD)
        logger.info("a line")
    logger.info("after")
    text = terminal.getvalue()
    assert "100%" in text and "10/10" in text and "loss 0.6123" in text and "38.1 pairs/s" in text
    assert "4/10" in text and "left" in text
    # The line begins on an empty one: the bar was cleared (carriage return, blanks) just before.
    assert re.search(r"\r *\r\[dpo\] a line\n", text)
    assert text.endswith("\n[dpo] after\n")
    assert logger.handlers == [original]


def test_counting_without_a_known_end_writes_a_line_now_and_then(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    plain_handler(logger, stream)
    with Counting("data: preparing a.jsonl", "pairs", stream=stream, clock=clock) as counting:
        for _ in range(50):
            clock.now += 0.5
            counting.add(1000)
    assert stream.getvalue().splitlines() == [
        "[dpo] data: preparing a.jsonl: 20,000 pairs, 2,000 pairs/s",
        "[dpo] data: preparing a.jsonl: 40,000 pairs, 2,000 pairs/s",
        "[dpo] data: preparing a.jsonl: 50,000 pairs, 2,000 pairs/s, in 0:00:25",
    ]


def test_what_is_counted_in_seconds_says_nothing_and_so_does_a_failure(logger: logging.Logger) -> None:
    stream, clock = io.StringIO(), Clock()
    plain_handler(logger, stream)
    with Counting("data", "pairs", stream=stream, clock=clock) as counting:
        counting.add(9)

    def fail() -> None:
        with Counting("data", "pairs", stream=stream, clock=clock):
            clock.now += 99
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert stream.getvalue() == ""


def test_counting_on_a_terminal_leaves_no_bar_behind(logger: logging.Logger) -> None:
    terminal = Terminal()
    plain_handler(logger, terminal)
    original = logger.handlers[0]
    with Counting("preparing", "pairs", stream=terminal) as counting:
        counting.add(12_345)
        logger.info("a line")
    assert re.search(r"preparing: [\d.]+.* pairs", terminal.getvalue())
    assert re.search(r"\r *\r\[dpo\] a line\n", terminal.getvalue())
    assert re.search(r"\r *\r$", terminal.getvalue())
    assert logger.handlers == [original]


def test_switched_off_it_writes_nothing(logger: logging.Logger) -> None:
    terminal = Terminal()
    plain_handler(logger, terminal)
    with Progress(2, enabled=False, stream=terminal) as progress:
        progress.update(2, RECORD)
    assert terminal.getvalue() == ""


def test_a_dumb_terminal_is_a_log_file(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    plain_handler(logger, terminal)
    Progress(2, stream=terminal).update(1, RECORD)
    assert "\r" not in terminal.getvalue() and "step 1/2" in terminal.getvalue()


def test_held_out_records_and_missing_numbers(logger: logging.Logger) -> None:
    stream = io.StringIO()
    plain_handler(logger, stream)
    progress = Progress(5, stream=stream)
    progress.update(0, {"split": "eval", "loss": 9.0})
    progress.update(1, {"split": "train", "loss": float("nan")})
    assert "9.0" not in stream.getvalue() and "loss nan" in stream.getvalue()
    assert describe({"loss": 1.0}) == ["loss 1.0000"]


def test_log_format_and_levels(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(is_main=True)
    setup_logging(is_main=True)
    child = logging.getLogger("dpo.data.formats.table")
    child.info("32 pairs")
    child.warning("skipped")
    logger.error("lost")
    assert capsys.readouterr().err == "[dpo] 32 pairs\n[dpo] warning: skipped\n[dpo] error: lost\n"
    setup_logging(is_main=False)
    child.warning("skipped")
    child.error("lost")
    assert capsys.readouterr().err == "[dpo] error: lost\n"


def test_libraries_are_quiet_and_a_users_wish_stands(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    setup_logging(is_main=True)
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "ERROR"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    seen: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    noisy = logging.getLogger("DeepSpeed")
    noisy.addHandler(handler := Collect())
    noisy.setLevel(logging.INFO)  # as deepspeed does when it is imported
    noisy.warning("chatter")
    noisy.error("broken")
    noisy.removeHandler(handler)
    assert seen == ["broken"]


def warn_from(module: str, category: type[Warning]) -> list[Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("old", category, "file.py", 1, module=module)
    return caught


def test_only_the_libraries_warnings_are_hidden(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    warnings.resetwarnings()
    warnings.simplefilter("always")
    setup_logging(is_main=True)
    assert not warn_from("torch.nn.modules", UserWarning)
    assert not warn_from("deepspeed.runtime.engine", FutureWarning)
    assert not warn_from("transformers", UserWarning)
    assert warn_from("torchless.module", UserWarning)
    assert warn_from("dpo.data", UserWarning)
    assert warn_from("torch", RuntimeWarning)  # numbers: a user can act on these


def test_setup_imports_no_heavy_library() -> None:
    code = (
        "import sys; from dpo.log import setup_logging; import dpo.progress, dpo.report, dpo.records, dpo.track.choose;"
        "setup_logging(True);"
        "print([m for m in ('torch', 'transformers', 'wandb', 'matplotlib', 'tqdm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert out.stdout.strip() == "[]" and out.stderr == ""


@pytest.mark.parametrize("downloads_seen", [True, False])
def test_bars_of_transformers_go_off_and_those_of_downloads_stay_on_a_terminal(downloads_seen: bool) -> None:
    code = (
        f"import sys; sys.stderr.isatty = lambda: {downloads_seen};"
        "from dpo.log import setup_logging, quiet_model_loading; setup_logging(True); quiet_model_loading();"
        "from transformers.utils import logging; from huggingface_hub.utils import are_progress_bars_disabled;"
        "print(logging.is_progress_bar_enabled(), are_progress_bars_disabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert out.stdout.split() == ["False", str(not downloads_seen)]
    assert out.stderr == ""

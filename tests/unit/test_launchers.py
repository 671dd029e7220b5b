"""What keeps a run going without a person: launch/keep.sh, and workers that leave when their launcher is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpo.distributed.launcher import STARTED

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
KEEP = str(ROOT / "launch" / "keep.sh")

# Fails with $1 until it was started $2 times.
COUNTING = 'echo >> starts; (($(wc -l < starts) >= $2)) || exit "$1"'


def keep(cwd: Path, *launch: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PAUSE": "0"}
    return subprocess.run([KEEP, *launch], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def starts(cwd: Path) -> int:
    return (cwd / "starts").read_text().count("\n")


def test_a_launch_is_repeated_until_it_ends_well(tmp_path: Path) -> None:
    done = keep(tmp_path, "bash", "-c", COUNTING, "launch", "137", "4")
    assert done.returncode == 0 and starts(tmp_path) == 4
    assert done.stderr.count("starting again") == 3 and "137" in done.stderr


def test_a_wrong_configuration_is_not_repeated(tmp_path: Path) -> None:
    assert keep(tmp_path, "bash", "-c", COUNTING, "launch", "2", "99").returncode == 2
    assert starts(tmp_path) == 1


def test_a_fault_that_does_not_pass_ends_after_five(tmp_path: Path) -> None:
    done = keep(tmp_path, "bash", "-c", COUNTING, "launch", "1", "99")
    assert done.returncode == 1 and starts(tmp_path) == 5 and "no passing fault" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_request_to_stop_reaches_the_launch_and_ends_the_keeping(number: signal.Signals, tmp_path: Path) -> None:
    launch = "trap 'echo saved > saved; exit 1' TERM; echo > started; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [KEEP, "bash", "-c", launch],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, as these tests may be, ignores SIGINT, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) == 1
    assert (tmp_path / "saved").exists()


LAUNCHER = """
import os, subprocess, sys, time
worker = '''
import signal, sys, time
from dpo.distributed import launcher
signal.signal(signal.SIGTERM, lambda *_: (open("asked", "w").close(), sys.exit(0)))
launcher.leave_with_launcher(signal.{name})
open("ready", "w").close()
time.sleep(2)
open("alive", "w").close()
'''
subprocess.Popen([sys.executable, "-c", worker])
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal")
@pytest.mark.parametrize(
    ("variables", "name", "left"),
    [({"LOCAL_RANK": "0"}, "SIGTERM", ["asked"]), ({"LOCAL_RANK": "0"}, "SIGKILL", []), ({}, "SIGKILL", ["alive"])],
)
def test_a_worker_leaves_when_its_launcher_is_killed(
    variables: dict[str, str], name: str, left: list[str], tmp_path: Path
) -> None:
    """Without a launcher's variables nothing happens: a run under nohup outlives its terminal."""
    kept = {k: v for k, v in os.environ.items() if k not in STARTED}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables}
    code = LAUNCHER.replace("{name}", name)
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    end = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < end:
        time.sleep(0.02)
    launcher.kill()
    assert launcher.stdout is not None
    launcher.stdout.read()  # until the worker has ended as well
    assert [path.name for path in tmp_path.iterdir() if path.name != "ready"] == left


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal")
@pytest.mark.parametrize(("variables", "left"), [({"TORCHELASTIC_RUN_ID": "none"}, []), ({}, ["alive"])])
def test_a_worker_whose_launcher_went_before_it_asked_leaves_too(
    variables: dict[str, str], left: list[str], tmp_path: Path
) -> None:
    """Killed while its workers still import: nothing tells them later, and they would look for it for half an hour."""
    if os.access("/proc/1/exe", os.R_OK) and os.readlink("/proc/1/exe") == os.readlink("/proc/self/exe"):
        pytest.skip("here process 1 is a Python, which could be the launcher")
    kept = {k: v for k, v in os.environ.items() if k not in STARTED}
    environment = {**kept, "PYTHONPATH": str(ROOT), **variables}
    code = LAUNCHER.replace("{name}", "SIGKILL").replace(
        "import signal, sys, time", "import signal, sys, time; time.sleep(1)"
    )
    code = code.replace("time.sleep(600)", "os._exit(0)")
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    launcher.stdout.read()  # until the worker has ended as well
    assert [path.name for path in tmp_path.iterdir() if path.name != "ready"] == left

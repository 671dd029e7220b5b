"""What the doctor says of GPUs. nvidia-smi is a script here that answers as the real one does."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dpo.distributed.allreduce import Speed, measure
from dpo.doctor import allreduce, gpus, smi
from dpo.doctor.finding import Finding, Job
from dpo.errors import EnvironmentProblem

pytestmark = pytest.mark.unit

# index, name, memory.total, memory.used, temperature.gpu, driver_version
GOOD = ["0, NVIDIA H100 80GB HBM3, 81559, 4, 31, 580.65.06", "1, NVIDIA H100 80GB HBM3, 81559, 4, 33, 580.65.06"]
SMI = """\
#!{python}
import sys
answers = {answers!r}
asked = sys.argv[1].removeprefix("--query-")
for start, (code, text) in answers.items():
    if asked.startswith(start):
        sys.stdout.write(text)
        sys.exit(code)
sys.stdout.write(f'Field "{{asked}}" is not a valid field to query.\\n')
sys.exit(2)
"""


Answers = dict[str, tuple[int, str]]


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an nvidia-smi on the PATH that gives these answers (exit code, text) to queries that begin so."""

    def put(**answers: tuple[int, str]) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "nvidia-smi"
        known = {"compute-apps": (0, ""), **answers}
        script.write_text(SMI.format(python=sys.executable, answers=known))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


def gpu_rows(*rows: str) -> Answers:
    return {"gpu=index,name": (0, "\n".join(rows) + "\n")}


def job(**kwargs: object) -> Job:
    return Job(path=Path(), **kwargs)  # type: ignore[arg-type]


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_good_gpus(nvidia: Callable[..., None]) -> None:
    nvidia(**gpu_rows(*GOOD))
    for expected in (None, 2):
        (finding,) = gpus.check_gpus(job(gpus=expected))
        assert (finding.level, finding.text) == ("ok", "2 x NVIDIA H100 80GB HBM3 with 80 GiB")


def test_one_is_missing(nvidia: Callable[..., None]) -> None:
    nvidia(**gpu_rows(*GOOD))
    (finding,) = gpus.check_gpus(job(gpus=8))
    assert finding.level == "fail" and "8 expected" in finding.text and "Xid" in finding.cure


@pytest.mark.skipif(smi.present(), reason="there is a driver here")
def test_none_where_some_are_expected() -> None:
    assert levels(gpus.check_gpus(job())) == levels(gpus.check_gpus(job(gpus=0))) == ["ok"]
    assert levels(gpus.check_gpus(job(gpus=8))) == ["fail"]


def test_others_on_it_heat_and_broken_memory(nvidia: Callable[..., None]) -> None:
    hot = "1, NVIDIA H100 80GB HBM3, 81559, 60000, 91, 580.65.06"
    answers = {
        "compute-apps": (0, "4711, python\n"),
        "gpu=index,ecc": (0, "0, 0\n1, 3\n"),
        "gpu=index,remapped_rows.pending": (0, "0, No\n1, Yes\n"),
        "gpu=index,clocks": (0, "0, Not Active\n1, Active\n"),
    }
    nvidia(**gpu_rows(GOOD[0], hot), **answers)
    findings = gpus.check_gpus(job())
    assert levels(findings) == ["ok", "warn", "fail", "fail", "warn", "warn"]
    text = "\n".join(finding.text for finding in findings)
    assert "GPU 1: 58.6 GiB by python (pid 4711)" in text
    assert "GPU 1: uncorrectable memory errors since the last reset (3)" in text
    assert "GPU 1: memory rows that wait for a reset" in text
    assert "slowed down by the hardware: GPU 1" in text and "GPU 1 at 91 C" in text


def test_a_driver_that_does_not_answer(nvidia: Callable[..., None]) -> None:
    lost = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    nvidia(gpu=(9, lost))
    (finding,) = gpus.check_gpus(job())
    assert finding.level == "fail" and "couldn't communicate" in finding.text


def test_nvidia_smi_that_hangs(nvidia: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia()
    script = Path(os.environ["PATH"].split(os.pathsep)[0], "nvidia-smi")
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(smi, "SECONDS", 0.2)
    (finding,) = gpus.check_gpus(job())
    assert finding.level == "fail" and "no answer" in finding.text


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_a_torch_without_cuda_beside_gpus(nvidia: Callable[..., None]) -> None:
    nvidia(**gpu_rows(*GOOD))
    (finding,) = gpus.check_driver(job())
    assert finding.level == "fail" and "built for the CPU, and there are 2 NVIDIA GPUs" in finding.text


@pytest.mark.parametrize(
    ("driver", "cuda", "level"),
    [("535.104.05", "13.0", "fail"), ("535.104.05", "12.6", ""), ("580.65.06", "13.0", ""), ("450.1", "12.1", "fail")],
)
def test_drivers_too_old_for_a_build(driver: str, cuda: str, level: str) -> None:
    finding = gpus._too_old(driver, cuda)
    assert (finding.level if finding else "") == level


def test_a_torch_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = gpus.check_driver(job())
    assert finding.level == "fail" and "libcudart.so.13" in finding.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="gloo's case")
def test_workers_that_cannot_meet_are_told_with_gloos_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    (finding,) = allreduce.check_allreduce(job())
    assert finding.level == "fail" and "nosuch0" in finding.text and "GLOO_SOCKET_IFNAME" in finding.cure


def test_workers_that_are_too_slow_are_ended() -> None:
    before = _workers()
    with pytest.raises(EnvironmentProblem, match="have not summed within 0 s"):
        measure(2, 0.2)
    assert _workers() <= before


def _workers() -> set[str]:
    listed = subprocess.run(["pgrep", "-f", "dpo.distributed.allreduce"], capture_output=True, text=True)
    return set(listed.stdout.split())


@pytest.mark.parametrize(
    ("bus", "backend", "linked", "level"),
    [
        (360.0, "nccl", True, "ok"),
        (20.0, "nccl", True, "warn"),
        (20.0, "nccl", False, "ok"),
        (2.0, "nccl", None, "warn"),
        (0.5, "gloo", None, "ok"),
        (0.01, "gloo", None, "warn"),
    ],
)
def test_speeds(bus: float, backend: str, linked: bool | None, level: str) -> None:
    assert allreduce.judged(Speed(backend=backend, bus=bus, milliseconds=0.02), 8, linked).level == level


@pytest.mark.parametrize(
    ("devices", "n"), [(None, 8), ("", 0), ("-1", 0), ("0", 1), ("2,3", 2), ("0,1,-1,2", 2), ("GPU-8932f937,GPU-1", 2)]
)
def test_gpus_that_are_hidden_take_no_part(devices: str | None, n: int) -> None:
    assert allreduce.visible(8, devices) == n

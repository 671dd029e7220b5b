"""The ops that DeepSpeed compiles: a build that was killed stops no later launch."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dpo.distributed import extensions
from launch import environment

pytestmark = pytest.mark.run

LOAD = """
from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder
from dpo.distributed import extensions
extensions.build_alone()
extensions.build_alone()  # once more changes nothing
print("loaded", ShareMemCommBuilder().load(verbose=False).__file__)
"""


def loaded(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment(**variables), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("loaded ")[1].strip()


def test_a_lock_that_a_killed_build_left_is_removed() -> None:
    op = extensions.own_folder() / "deepspeed_shm_comm"
    op.mkdir(parents=True, exist_ok=True)
    (op / extensions.BATON).touch()  # torch alone would wait for its end without end
    assert Path(loaded()).parent == op
    assert not (op / extensions.BATON).exists()


def test_the_folder_is_named_by_what_made_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(extensions.VARIABLE, str(tmp_path))
    here = extensions.own_folder()
    assert here.parent == tmp_path
    monkeypatch.setenv(extensions.VARIABLE, str(here))
    assert extensions.own_folder() == here, "as a child process sees it"
    monkeypatch.setenv(extensions.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "prefix", "/another/environment")
    assert extensions.own_folder() != here


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # no folder can lie in it, for root neither
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=environment(TORCH_EXTENSIONS_DIR=str(tmp_path / "file" / "ops")),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "set TORCH_EXTENSIONS_DIR to another folder" in done.stderr


def test_a_minute_of_compiling_is_said_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    builder = SimpleNamespace(name="an_op")
    loads: list[str] = []

    def load(builder: SimpleNamespace, verbose: bool) -> None:
        loads.append(builder.name)
        (tmp_path / builder.name).mkdir(exist_ok=True)
        (tmp_path / builder.name / "an_op.so").touch()

    caplog.set_level(logging.INFO, "dpo")
    alone = extensions._alone(load, tmp_path)
    alone(builder)
    assert "compiles its op an_op" in caplog.text
    caplog.clear()
    alone(builder)
    assert loads == ["an_op", "an_op"] and not caplog.text

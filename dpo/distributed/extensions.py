"""The C++ ops that DeepSpeed compiles on first use: where they lie, and that a killed build stops no later launch."""

import fcntl
import hashlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpo.errors import EnvironmentProblem

log = logging.getLogger(__name__)

VARIABLE = "TORCH_EXTENSIONS_DIR"
BATON = "lock"  # torch's own, beside each op


def build_alone() -> None:
    """Let workers of this job and of others build one after the other, under a lock that the kernel takes back.

    torch's is a file that stays when its holder is killed, and every later launch then waits for it without end
    (torch 2.13, utils/file_baton.py). Under ours, a file that is there was left behind. Call before DeepSpeed is used.

    Raises:
        EnvironmentProblem: the folder of the ops cannot be written.
    """
    from deepspeed.ops.op_builder.builder import OpBuilder

    folder = own_folder()
    os.environ[VARIABLE] = str(folder)
    OpBuilder.jit_load = _alone(getattr(OpBuilder.jit_load, "__wrapped__", OpBuilder.jit_load), folder)


def own_folder() -> Path:
    """Where this installation's ops lie: inside TORCH_EXTENSIONS_DIR or the user's cache, by what decides the binary.
    Without that, two virtual environments would build over each other, and nodes with other processors share ops that
    are compiled for one of them."""
    chosen = os.environ.get(VARIABLE)
    root = Path(chosen).expanduser() if chosen else Path("~/.cache/torch_extensions").expanduser()
    made_by = [version("torch"), version("deepspeed"), sys.prefix, sys.version, _processor()]
    name = "dpo-" + hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:12]
    return root if root.name == name else root / name


def _processor() -> str:
    """What `-march=native` sees; on Linux all features, elsewhere the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _alone(load: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def jit_load(builder: Any, verbose: bool = True) -> Any:
        if not any((folder / builder.name).glob("*.so")):  # said by all: whichever comes first compiles
            log.info("DeepSpeed compiles its op %s for this machine, once: about a minute", builder.name)
        with _held(folder) as alone:
            for left in folder.glob(f"*/{BATON}") if alone else ():
                log.info("%s was left by a build that was killed, and is removed", left)
                left.unlink(missing_ok=True)
            return load(builder, verbose)

    jit_load.__wrapped__ = load  # type: ignore[attr-defined]
    return jit_load


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether the lock is held: not on file systems without locks, where torch's file has to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "building").open("w")
    except OSError as error:
        raise EnvironmentProblem(
            f"DeepSpeed compiles ops into {folder}, which cannot be written: {error.strerror}; set {VARIABLE} to "
            "another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError as error:
            log.debug("no lock on %s: %s", folder, error)
            alone = False
        yield alone

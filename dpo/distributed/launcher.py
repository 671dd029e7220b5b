"""What the launcher left in the environment: checked and completed before any library reads it."""

import ctypes
import logging
import os
import shutil
import signal
import socket
import sys
import sysconfig
from pathlib import Path

from dpo.errors import EnvironmentProblem

log = logging.getLogger(__name__)

# What torchrun, accelerate and scripts around srun set for a worker.
STARTED = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION")
PR_SET_PDEATHSIG = 1  # prctl(2)
REAPERS = ("systemd", "slurmstepd", "containerd-shim-runc-v2", "conmon")  # besides process 1, whatever it is


def world_size() -> int:
    """Processes of this job, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leave_with_launcher(number: signal.Signals) -> None:
    """A worker whose launcher is gone (kill -9) gets this signal and does not train on unseen. A later call changes it:
    SIGKILL until the workers have met: one that looks for them in torch, at a store that went with the launcher, hears
    nothing else for `zero.timeout_seconds`. From then on SIGTERM, a request to stop. On Linux; not without a launcher,
    where closing the terminal must not end a `nohup python train.py`.
    """
    if not sys.platform.startswith("linux") or not any(name in os.environ for name in STARTED):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent or _adopted(parent):  # it went before, and the kernel will not tell any more
        os.kill(os.getpid(), number)


def _adopted(parent: int) -> bool:
    """Whether a worker of torchrun has a process for its parent that takes in orphans. In a container the launcher can
    be process 1 itself: a Python, as its workers are."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    try:
        executable = os.readlink(f"/proc/{parent}/exe")
    except OSError:  # of another user, as process 1 mostly is: torchrun's workers have its own
        return parent == 1
    reaper = parent == 1 or Path(executable).name in REAPERS
    return reaper and executable != os.readlink("/proc/self/exe")


def may_restart() -> bool:
    """Whether torchrun starts the workers again when one fails, with what they wrote into its store still there."""
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return shared and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def refuse_foreign_deepspeed() -> None:
    """The run's ZeRO settings stand in conf/zero alone; an accelerate config with its own would silently compete.

    Raises EnvironmentProblem naming the fields and the cure.
    """
    fields = [
        f for f in os.environ.get("ACCELERATE_CONFIG_DS_FIELDS", "").split(",") if f not in ("", "mixed_precision")
    ]
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    if not fields and file in ("", "None", "none"):
        return
    found = f"DeepSpeed settings ({', '.join(fields[:4])}{', ...' if len(fields) > 4 else ''})" if fields else file
    raise EnvironmentProblem(
        f"Accelerate's own configuration brings {found}, but this trainer takes DeepSpeed's settings from conf/zero "
        "only. Launch with launch/local.sh, or with `accelerate launch --config_file launch/accelerate.yaml "
        "--num_processes <N> train.py`, or remove the DeepSpeed part from the default accelerate config "
        "(`accelerate env` shows where it lies), and choose with zero=zero2 or zero=zero3."
    )


def forget_accelerate_choices(precision: str) -> None:
    """Drop the launcher's precision and DeepSpeed flags: `precision=` and `zero=` decide, and say so."""
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", precision):
        log.warning("accelerate's mixed_precision=%s has no effect: precision=%s decides", asked, precision)
    if stage := os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE"):
        log.warning("accelerate's ZeRO stage %s has no effect: zero= decides", stage)
    for name in list(os.environ):
        if name.startswith("ACCELERATE_DEEPSPEED_") or name in (
            "ACCELERATE_USE_DEEPSPEED",
            "ACCELERATE_CONFIG_DS_FIELDS",
            "ACCELERATE_MIXED_PRECISION",
            "ACCELERATE_USE_FSDP",
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        ):
            del os.environ[name]


def complete_rendezvous() -> None:
    """`accelerate launch` of one process sets no rendezvous variables; an engine that shards needs them even so."""
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
    for name, value in {"MASTER_ADDR": "127.0.0.1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)


def require_compiler() -> None:
    """DeepSpeed compiles ops on their first use (on CPU ranks one for communication, about 30 s): g++ and ninja must be
    there."""
    scripts = str(Path(sys.executable).parent)
    if shutil.which("ninja") is None and shutil.which("ninja", path=scripts):
        os.environ["PATH"] = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"  # a virtual environment not activated
    headers = Path(sysconfig.get_path("include"), "Python.h")
    found = {"g++": shutil.which("g++"), "ninja": shutil.which("ninja"), "Python.h": headers.is_file()}
    cures = {
        "g++": "a C++ compiler (Debian: apt-get install g++)",
        "ninja": "pip install ninja",
        "Python.h": "Python's headers (Debian: apt-get install python3-dev)",
    }
    if missing := [tool for tool in cures if not found[tool]]:
        raise EnvironmentProblem(
            f"DeepSpeed compiles an op on first use and lacks {' and '.join(missing)}: install "
            f"{'; '.join(cures[tool] for tool in missing)}. Or train without DeepSpeed: zero=off."
        )


def require_async_io() -> None:
    """DeepSpeed reaches an SSD through libaio. Raises EnvironmentProblem when its op cannot be built here."""
    from deepspeed.ops.op_builder import AsyncIOBuilder

    require_compiler()
    if not AsyncIOBuilder().is_compatible(verbose=False):
        raise EnvironmentProblem(
            "zero=zero3_nvme compiles an op against libaio, which is not here: install it (Debian: apt-get install "
            "libaio-dev), or keep the state in host memory: zero=zero3_offload."
        )

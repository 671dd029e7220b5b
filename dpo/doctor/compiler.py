"""Whether DeepSpeed's ops can be compiled here, loaded and kept: by doing it with a small one."""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

from dpo.distributed import launcher
from dpo.distributed.extensions import VARIABLE, own_folder
from dpo.doctor import smi
from dpo.doctor.finding import Finding, Job, fail, ok, warn
from dpo.errors import EnvironmentProblem

SECONDS = 30.0
# What DeepSpeed's own ops need: Python's headers, OpenMP, this processor's instructions (op_builder/builder.py).
_SOURCE = """
#include <Python.h>
extern "C" int sum(int n) {
    int total = 0;
    #pragma omp parallel for reduction(+ : total)
    for (int i = 1; i <= n; ++i) total += i;
    return total;
}
"""


def check_compiler(job: Job) -> list[Finding]:
    gpu = smi.present()
    needed = job.offload or not gpu
    return [host_finding(needed), *(_cuda(job.offload) if gpu else [])]


def host_finding(needed: bool) -> Finding:
    """The C++ compiler; one that is not needed only warns."""
    folder = own_folder()
    try:
        launcher.require_compiler()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _build(Path(scratch))
    except EnvironmentProblem as error:
        problem, _, cure = str(error).partition(": ")
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        problem, cure = f"{error.cmd[0]} fails: {said[0] if said else error.returncode}", "CXX=g++, or install it anew"
    except OSError as error:  # a folder that cannot be written, or one from which nothing may be loaded (noexec)
        problem, cure = (
            f"compiled ops cannot live in {folder}: {error.strerror or error}",
            f"{VARIABLE}=<another folder>",
        )
    else:
        return ok(f"{_compiler()} compiles, and what it makes loads from {folder}")
    return fail(problem, cure) if needed else warn(f"{problem} (on GPUs only optimizer offload needs it)", cure)


def _compiler() -> str:
    return os.environ.get("CXX", "c++")  # as torch chooses


def _build(folder: Path) -> None:
    """Raises CalledProcessError, or OSError when the result does not load or sums wrongly."""
    source, target = folder / "op.cpp", folder / "op.so"
    source.write_text(_SOURCE)
    flags = ["-O3", "-std=c++17", "-shared", "-fPIC", "-fopenmp", "-march=native", f"-I{get_path('include')}"]
    command = [_compiler(), *flags, str(source), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
    if ctypes.CDLL(str(target)).sum(100) != 5050:
        raise OSError("what it makes computes a wrong sum")


def _cuda(needed: bool) -> list[Finding]:
    """nvcc, which DeepSpeed asks for the optimizer on the host and for ops of its own."""
    worse = fail if needed else warn
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None) or shutil.which(
        "nvcc", path="/usr/local/cuda/bin"
    )
    if nvcc is None:
        text = "no nvcc: DeepSpeed cannot compile its optimizer for offload"
        return [worse(text, "a CUDA toolkit (nvidia/cuda:*-devel), CUDA_HOME=<its folder>") if needed else ok(text)]
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    release = re.search(r"release (\d+)\.(\d+)", said)
    built = re.search(r"\+cu(\d+)\d", version("torch"))  # 2.13.0+cu130; PyPI's build does not say, and the probe does
    if release and built and release[1] != built[1]:
        text = f"nvcc is of CUDA {release[1]}.{release[2]}, torch of CUDA {built[1]}: DeepSpeed refuses to compile"
        return [worse(text, f"CUDA_HOME=<a toolkit of CUDA {built[1]}>")]
    return [ok(f"nvcc {release[1]}.{release[2]}" if release else "nvcc found")]

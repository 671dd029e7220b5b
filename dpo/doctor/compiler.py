"""Whether DeepSpeed's ops can be compiled here, loaded and kept: by doing it with a small one."""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
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
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    folders = [f"{home}/bin"] if home else [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(folders))
    if nvcc is None:
        text = "no nvcc, with which DeepSpeed compiles its optimizer for offload"
        cure = "a CUDA toolkit (the image's base: nvidia/cuda:*-devel), CUDA_HOME=<its folder>"
        return [fail(text, cure) if needed else ok(f"{text}: not needed here")]
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    release, built = re.search(r"release (\d+)\.(\d+)", said), _built_for()
    if release is None:
        return [warn(f"{nvcc} --version names no release", "CUDA_HOME=<another toolkit>")]
    if built and built.partition(".")[0] != release[1]:
        text = f"nvcc is of CUDA {release[1]}.{release[2]}, torch of CUDA {built}: DeepSpeed refuses to compile"
        cure = f"CUDA_HOME=<a toolkit of CUDA {built}>"
        return [fail(text, cure) if needed else warn(text, cure)]
    return [ok(f"nvcc of CUDA {release[1]}.{release[2]}")]


def _built_for() -> str | None:
    """The CUDA version of the installed torch, read from its files: importing it takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    match = re.search(r"^cuda\b.*= '([\d.]+)'", Path(found.origin).with_name("version.py").read_text(), re.MULTILINE)
    return match[1] if match else None

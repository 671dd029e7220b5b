"""GPUs: how many, how they are, who else is on them; and whether this torch can use them through this driver."""

import json
import os
import subprocess
import sys
from typing import Any

from dpo.doctor import smi
from dpo.doctor.finding import Finding, Job, fail, ok, warn
from dpo.errors import EnvironmentProblem

HOT_CELSIUS = 85.0  # data-centre cards slow down from 87 to 93 on
USED_MIB = 1024.0  # by others; the driver itself holds up to some 600 MiB
TORCH_SECONDS = 25.0  # the first start of CUDA on a node reads gigabytes of libraries
# The oldest driver branch of each CUDA major version, which runs all its minor versions
# (docs.nvidia.com/deploy/cuda-compatibility, minor version compatibility).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}

# In a process of its own: CUDA's context goes with it, and one that hangs can be ended.
_PROBE = """
import json, torch
found = {"cuda": torch.version.cuda, "hip": torch.version.hip, "count": 0, "broken": "", "names": []}
try:
    found["count"] = torch.cuda.device_count()
    for i in range(found["count"]):
        ones = torch.ones(256, 256, device=f"cuda:{i}")
        assert float((ones @ ones).sum()) == 256.0**3, f"GPU {i} computes a wrong product"
        found["names"].append(torch.cuda.get_device_name(i))
except Exception as error:
    found["broken"] = str(error).splitlines()[0]
print(json.dumps(found))
"""


def check_gpus(job: Job) -> list[Finding]:
    """By nvidia-smi; without one there are none, or not NVIDIA's, which check_driver tells apart."""
    if not smi.present():
        if job.gpus:
            cure = "a node with GPUs (Slurm: --gpus-per-node; docker run --gpus all), or doctor.gpus=0"
            return [fail(f"no NVIDIA driver here (no nvidia-smi on the PATH), {job.gpus} GPUs expected", cure)]
        return [ok("no NVIDIA GPU: training runs on the CPU")]
    try:
        found, others = smi.gpus(), smi.processes()
        broken, slowed = smi.errors(), smi.slowed()
    except EnvironmentProblem as error:
        cure = "load or reinstall the driver (dmesg | grep NVRM says why), or reboot the node"
        return [fail(f"nvidia-smi: {error}", cure)]
    return [*_counted(found, job.gpus), *_occupied(found, others), *_health(found, broken, slowed)]


def _counted(found: list[smi.Gpu], expected: int | None) -> list[Finding]:
    names = ", ".join(sorted({f"{g.name} with {g.total_mib / 1024:.0f} GiB" for g in found}))
    text = f"{len(found)} x {names}" if found else "the driver finds no GPU"
    if expected is not None and len(found) != expected:
        cure = "one fell off the bus (dmesg | grep Xid; drain the node) or the job asked for fewer; else doctor.gpus="
        return [fail(f"{text}: {expected} expected", cure)]
    return [ok(text) if found else fail(text, "dmesg | grep -e NVRM -e Xid, or reboot the node")]


def _occupied(found: list[smi.Gpu], others: list[tuple[str, str]]) -> list[Finding]:
    used = [f"GPU {g.index}: {g.used_mib / 1024:.1f} GiB" for g in found if g.used_mib > USED_MIB]
    if not used and not others:
        return []
    who = ", ".join(f"{name} (pid {pid})" for pid, name in others) or "processes that are not visible from here"
    return [warn(f"in use already: {', '.join(used) or 'a little memory'} by {who}", "end them: kill <pid>")]


def _health(found: list[smi.Gpu], broken: list[str], slowed: list[str]) -> list[Finding]:
    findings = [
        fail(text, "nvidia-smi -r with nothing running, or drain the node; again: replace it") for text in broken
    ]
    if slowed:
        text = f"slowed down by the hardware: GPU {', '.join(slowed)}"
        findings.append(warn(text, "nvidia-smi -q -d PERFORMANCE,TEMPERATURE: cooling or power supply"))
    hot = [f"GPU {g.index} at {g.celsius:.0f} C" for g in found if g.celsius and g.celsius >= HOT_CELSIUS]
    return [*findings, *([warn(f"hot: {', '.join(hot)}", "cooling, or what runs there now")] if hot else [])]


def check_driver(job: Job) -> list[Finding]:
    """Does torch compute on every GPU that there is?"""
    try:
        found = probe()
    except EnvironmentProblem as error:
        return [fail(str(error), "nvidia-smi -q; NVSwitch machines: systemctl status nvidia-fabricmanager; reboot")]
    try:
        there = smi.gpus() if smi.present() else []
    except EnvironmentProblem:
        there = []  # check_gpus has said so
    build = f"CUDA {found['cuda']}" if found["cuda"] else f"ROCm {found['hip']}" if found["hip"] else "the CPU"
    if there and not found["cuda"]:
        cure = "pip install --force-reinstall torch from an index with CUDA builds (https://pytorch.org/get-started)"
        return [fail(f"this torch is built for {build}, and there are {len(there)} NVIDIA GPUs", cure)]
    if there and (problem := _too_old(there[0].driver, found["cuda"])):
        return [problem]
    if found["broken"]:
        cure = "NVSwitch machines: systemctl start nvidia-fabricmanager; else nvidia-smi -q, reboot"
        return [fail(f"torch on {build}: {found['broken']}", cure)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if found["count"] < len(there) and visible is None:
        return [fail(f"torch finds {found['count']} of {len(there)} GPUs", "nvidia-smi -L, dmesg | grep Xid")]
    if not there and not found["count"]:
        return [ok(f"torch built for {build}; no GPU to try it on")]
    narrowed = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None and there else ""
    driver = f", driver {there[0].driver}" if there else ""
    return [ok(f"torch built for {build}{driver}: computes on {found['count']} GPUs{narrowed}")]


def _too_old(driver: str, cuda: str) -> Finding | None:
    least = OLDEST_DRIVER.get(int(cuda.partition(".")[0]))
    branch = driver.partition(".")[0]
    if least is None or not branch.isdigit() or int(branch) >= least:
        return None
    cure = f"a driver from {least} on, or torch built for an older CUDA (https://pytorch.org/get-started)"
    return fail(f"driver {driver} does not run CUDA {cuda}, for which this torch is built", cure)


def probe() -> dict[str, Any]:
    """What torch finds. Raises EnvironmentProblem when it cannot even be asked."""
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"torch has not started CUDA within {TORCH_SECONDS:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EnvironmentProblem(f"torch cannot be imported: {said[-1] if said else f'exit code {done.returncode}'}")
    return json.loads(done.stdout.splitlines()[-1])

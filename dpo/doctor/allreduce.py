"""The speed at which the workers of this node sum their gradients, beside what its links should give."""

import os

from dpo.distributed.allreduce import Speed, measure
from dpo.doctor import smi
from dpo.doctor.finding import Finding, Job, fail, ok, warn
from dpo.errors import EnvironmentProblem

SECONDS = 30.0  # torch's import on a cold disk, twice NCCL's start
CPU_WORKERS = 2

# GB/s, bus bandwidth of large messages. Guides and no promises: nccl-tests on DGX machines shows some 230 with the
# third NVLink (A100), 360 to 480 with the fourth (H100), 10 to 25 over PCIe 3 to 5. Below these something is off.
LEAST_NVLINK, LEAST_PCIE = 80.0, 5.0
LEAST_CPU = 0.1  # gloo over the loopback; 1 to 3 on an idle machine


def check_allreduce(job: Job) -> list[Finding]:
    try:
        n_gpus = visible(len(smi.gpus()), os.environ.get("CUDA_VISIBLE_DEVICES")) if smi.present() else 0
    except EnvironmentProblem:
        n_gpus = 0  # check_gpus has said why
    if n_gpus == 1:
        return [ok("one GPU: nothing to sum with")]
    workers = n_gpus or CPU_WORKERS
    try:
        speed = measure(workers, SECONDS)
    except EnvironmentProblem as error:
        cure = "NCCL_DEBUG=INFO says where; a hang: NCCL_P2P_DISABLE=1, and switch off ACS and IOMMU in the firmware"
        cpu_cure = "unset GLOO_SOCKET_IFNAME, or name an interface that `ip link` shows; is lo up?"
        return [fail(str(error), cure if n_gpus else cpu_cure)]
    return [judged(speed, workers, smi.linked() if n_gpus else None)]


def visible(there: int, devices: str | None) -> int:
    """How many of the GPUs CUDA_VISIBLE_DEVICES leaves to a process; -1 hides what follows."""
    if devices is None:
        return there
    shown = [name for name in devices.partition("-1")[0].split(",") if name.strip()]
    return min(there, len(shown))


def judged(speed: Speed, workers: int, linked: bool | None) -> Finding:
    """`linked`: whether NVLink connects the GPUs; None: unknown."""
    on_gpus = speed.backend == "nccl"
    text = (
        f"{workers} {'GPUs' if on_gpus else 'CPU workers'} over {speed.backend}: {speed.bus:.1f} GB/s bus bandwidth, "
        f"{speed.milliseconds:.2f} ms for 4 bytes"
    )
    if not on_gpus:
        way, least, cure = "the loopback", LEAST_CPU, "other load on the machine: top"
    else:
        way, least = ("NVLink", LEAST_NVLINK) if linked else ("PCIe", LEAST_PCIE)
        cure = "nvidia-smi topo -m and nvlink --status, nothing else running; NCCL_DEBUG=INFO must say P2P"
    return ok(text) if speed.bus >= least else warn(f"{text}: {way} gives at least {least:g}", cure)

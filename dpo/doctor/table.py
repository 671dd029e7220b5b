"""Every check by its name (dpo/config/doctor.py lists them in order), with the time that it may take."""

from collections.abc import Callable
from dataclasses import dataclass

from dpo.doctor import allreduce, compiler, disk, gpus, limits, memory, network, versions
from dpo.doctor.finding import Finding, Job


@dataclass(kw_only=True, slots=True)
class Check:
    run: Callable[[Job], list[Finding]]
    seconds: float = 10.0
    measures: bool = False  # what others do at the same time would spoil it


TABLE = {
    "versions": Check(run=versions.check_versions),
    "gpus": Check(run=gpus.check_gpus, seconds=20),
    "driver": Check(run=gpus.check_driver, seconds=30),
    "allreduce": Check(run=allreduce.check_allreduce, seconds=32, measures=True),
    "compiler": Check(run=compiler.check_compiler, seconds=30),
    "disk": Check(run=disk.check_disk, seconds=15, measures=True),
    "shm": Check(run=limits.check_shm),
    "limits": Check(run=limits.check_limits),
    "memory": Check(run=memory.check_memory),
    "cpus": Check(run=memory.check_cpus),
    "host": Check(run=network.check_host, seconds=12),
    "proxies": Check(run=network.check_proxies, seconds=14),
    "wandb": Check(run=network.check_wandb, seconds=14),
    "hub": Check(run=network.check_hub),
    "clock": Check(run=network.check_clock, seconds=14),
}

"""How fast the workers of one machine sum what they hold: started as real processes, as a run starts them.

python -m dpo.distributed.allreduce      one of them; RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dpo.distributed import launcher
from dpo.errors import EnvironmentProblem

PACKAGES = Path(__file__).parents[2]  # where `dpo` is found
GPU_BYTES, CPU_BYTES = 2**28, 2**24  # large enough that bandwidth counts and not latency
TIMES = 5  # timed, after one that sets the connections up


@dataclass(kw_only=True, slots=True)
class Speed:
    backend: str
    # GB/s, 2 (n - 1) / n times bytes / seconds: what every link carries, whatever n is, to be compared with the
    # hardware's figure (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).
    bus: float
    milliseconds: float  # of one sum of 4 bytes


def measure(workers: int, seconds: float) -> Speed:
    """Start `workers` processes, one per GPU where there are any.

    Raises:
        EnvironmentProblem: they failed, with the first worker's last words, or took longer than `seconds`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [_start(rank, workers, port) for rank in range(workers)]
    end = time.monotonic() + seconds
    try:
        said = [process.communicate(timeout=max(0.1, end - time.monotonic())) for process in running]
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"{workers} local workers have not summed within {seconds:.0f} s") from None
    finally:
        for process in running:
            _end(process)
    for process, (_, errors) in zip(running, said, strict=True):
        if process.returncode:
            lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
            raise EnvironmentProblem(f"local workers cannot sum: {lines[-1][:300]}")
    return Speed(**json.loads(said[0][0].splitlines()[-1]))


def _start(rank: int, workers: int, port: int) -> "subprocess.Popen[str]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    path = os.pathsep.join([str(PACKAGES), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # Not torchrun's own, should it have started this process: its workers would look for its store.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    environment = {**kept, "PYTHONPATH": path, **{name: str(value) for name, value in place.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", "dpo.distributed.allreduce"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def main() -> None:
    """One worker; the first says what was measured."""
    launcher.leave_with_launcher(signal.SIGKILL)
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", launcher.local_rank()) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(seconds=60))

    def seconds(n_bytes: int) -> float:
        values = torch.ones(n_bytes // 4, device=device)
        dist.all_reduce(values)
        if float(values[0]) != dist.get_world_size():
            raise EnvironmentProblem(f"a sum over {dist.get_world_size()} workers gave {float(values[0])}")
        began = time.perf_counter()
        for _ in range(TIMES):
            dist.all_reduce(values)
        float(values[0])  # waits for the device
        return (time.perf_counter() - began) / TIMES

    size, n_bytes = dist.get_world_size(), GPU_BYTES if gpu else CPU_BYTES
    bus = 2 * (size - 1) / size * n_bytes / seconds(n_bytes) / 1e9
    speed = {"backend": dist.get_backend(), "bus": bus, "milliseconds": seconds(4) * 1e3}
    if launcher.rank() == 0:
        sys.stdout.write(json.dumps(speed) + "\n")
        sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

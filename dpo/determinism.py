"""`deterministic=true`: the same command gives the same bits again, as far as the hardware can.

Nothing else needs a switch: the data plan is a pure function of the settings, every step seeds its own dropout, sums
over workers run in a fixed order for a fixed number of workers, and no order of a set of texts (PYTHONHASHSEED) decides
anything.
"""

import os

import torch

PROMISE = (
    "deterministic: the same settings, library versions and number of workers give the same bits again. On CPUs of one "
    "model always (one thread per worker); on GPUs only of one model with one driver, where an operation without a "
    "deterministic kernel is an error and attention's backward takes a slower one; never across different hardware"
)
# Read when cuBLAS and NCCL start; defaults only. A workspace of fixed size: without it torch refuses matrix products.
# Rings add up in an order that follows from the workers alone; reductions inside a switch (NVLS, SHARP) promise none.
_ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring"}


def make_deterministic() -> str:
    """For the rest of this process; call it before anything is computed. Returns the line for the log."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it would choose kernels by their speed of the moment
    if not torch.cuda.is_available():
        # The number of threads decides how sums are split: 1 and 2 threads differ in the last bits.
        torch.set_num_threads(1)
    return PROMISE

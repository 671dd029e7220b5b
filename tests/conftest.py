"""What all tests share."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the package is tested from the checkout, installed or not
sys.path.insert(0, str(ROOT / "benchmarks"))

# Before torch is imported anywhere: the models of the tests are so small that threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

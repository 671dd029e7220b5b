"""What the tests of the doctor share: a small disk, and the one finding of a check."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpo.doctor.finding import Finding


def one(findings: list[Finding], level: str) -> Finding:
    (finding,) = findings
    assert finding.level == level, finding
    return finding


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)

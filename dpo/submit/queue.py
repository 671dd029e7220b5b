"""Batch scripts -> Slurm's queue."""

import logging
import re
import shutil
import subprocess
from pathlib import Path

from dpo.errors import EnvironmentProblem
from dpo.submit.batch import Batch, text_of

log = logging.getLogger(__name__)


def show(batches: list[Batch]) -> str:
    """What `submit` would submit, one script after the other."""
    texts, after = [], None
    for batch in batches:
        texts.append(text_of(batch, _dependency(after or batch.launch.after)))
        after = f"afterok:NUMBER_OF_{batch.name}"
    return "\n".join(texts)


def submit(batches: list[Batch]) -> list[str]:
    """Numbers of the jobs; each waits for the one before to succeed, the first for `launch.after`.

    Raises:
        EnvironmentProblem: no Slurm here, or it refuses a job; those before it are in the queue.
    """
    if shutil.which("sbatch") is None:
        raise EnvironmentProblem(
            "sbatch is not on the PATH: run this where jobs of your cluster are submitted; --dry-run shows the script"
        )
    numbers: list[str] = []
    for batch in batches:
        Path(batch.log).parent.mkdir(parents=True, exist_ok=True)  # Slurm makes no folders, the output would be lost
        after = f"afterok:{numbers[-1]}" if numbers else _dependency(batch.launch.after)
        script = text_of(batch, after)
        done = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True)
        if done.returncode:
            raise EnvironmentProblem(f"Slurm refuses {batch.name}: {done.stderr.strip()} (--dry-run shows the script)")
        numbers.append(done.stdout.strip().partition(";")[0])
        log.info("submitted %s as job %s; its log: %s", batch.name, numbers[-1], _log(batch, numbers[-1]))
    return numbers


def _dependency(after: str | None) -> str | None:
    return f"afterok:{after}" if after and re.fullmatch(r"[\d_]+", after) else after


def _log(batch: Batch, number: str) -> str:
    known = {"%x": batch.name, "%j": number, "%A": number, "%a": "*"}
    return re.sub("%[xjAa]", lambda found: known[found[0]], batch.log)

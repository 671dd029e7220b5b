"""`python -m dpo sweep`: one launch per combination of settings, one after the other, and what came of them."""

import logging
import os
import shlex
import signal
import subprocess
from pathlib import Path
from types import FrameType

from dpo.compare import compare
from dpo.config.sweep import Job, jobs_of
from dpo.records import RunFolder, read_status

log = logging.getLogger(__name__)

LAUNCH = Path(__file__).parents[1] / "launch" / "local.sh"
REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Sweep:
    """Runs jobs until one is asked to stop. A run that fails does not end the others.

    All share output_dir and with it what is kept of the reference and of the data: the first computes, the others find.
    """

    def __init__(self, jobs: list[Job], launch: list[str]):
        self.jobs, self.launch = jobs, launch
        self.asked = False  # to stop
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> list[RunFolder]:
        """Those that are done."""
        before = {number: signal.signal(number, self._pass_on) for number in REQUESTS}
        done = []
        try:
            for i, job in enumerate(self.jobs):
                if self.asked:
                    break
                log.info("sweep: run %d of %d: %s", i + 1, len(self.jobs), job.name)
                code = self._launch(job)
                folder = RunFolder(Path(job.config.output_dir) / job.name)
                status = read_status(folder)
                if code == 0 and status and status.state == "done":
                    done.append(folder)
                elif not self.asked:
                    log.error("sweep: %s failed (exit code %d); on with the others", job.name, code)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return done

    def _launch(self, job: Job) -> int:
        # In a session of its own: a Ctrl-C then reaches it once, through this process.
        self._process = subprocess.Popen([*self.launch, *job.overrides], start_new_session=True)
        if self.asked:  # while it was being started
            self._process.terminate()
        return self._process.wait()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)


def run_sweep(overrides: list[str]) -> tuple[str, bool]:
    """The comparison of all runs that are done, and whether that is all. LAUNCH in the environment is what starts
    a run, launch/local.sh where there is none.

    Raises:
        ConfigError: nothing to sweep over, or settings that are wrong in any of the runs; before the first starts.
    """
    jobs = jobs_of(overrides)
    done = Sweep(jobs, shlex.split(os.environ.get("LAUNCH", "")) or [str(LAUNCH)]).run()
    picture = Path(jobs[0].config.output_dir) / f"{jobs[0].sweep}.png"
    text = compare(done, picture) if done else "no run is done: nothing to compare\n"
    return text, len(done) == len(jobs)

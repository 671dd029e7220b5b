"""train.py whose worker 1 goes to sleep for ever in its fourth step, as in a file system that does not answer."""

import sys
import time
from typing import Any

import dpo.trainer as trainer
from dpo.cli import main
from dpo.distributed import launcher

right = trainer.train_step
steps = 0


def hanging(*arguments: Any) -> Any:
    global steps
    steps += 1
    while steps == 4 and launcher.rank() == 1:
        time.sleep(1.0)
    return right(*arguments)


trainer.train_step = hanging
sys.exit(main(sys.argv[1:]))

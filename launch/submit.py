"""python launch/submit.py [train|reference|sweep] [launch=<site>] [launch.<setting>=value ...] [settings of train.py]

Puts a run into the queue of a Slurm cluster; --help explains it, --dry-run shows the batch script.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere, installed or not

try:
    from dpo.cli import main
    from dpo.commands import COMMANDS
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed for {sys.executable}: `make setup`, then `source .venv/bin/activate`.")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], COMMANDS["submit"]))

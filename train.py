"""accelerate launch train.py [group=choice ...] [group.setting=value ...]

Trains a causal language model by Direct Preference Optimization. `python train.py --help` lists what can be set.
"""

import sys

try:
    from dpo.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed for {sys.executable}: `make setup`, then `source .venv/bin/activate`.")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

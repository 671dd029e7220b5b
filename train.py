"""accelerate launch train.py [group=choice ...] [group.setting=value ...]

Trains a causal language model by Direct Preference Optimization. `python train.py --help` lists what can be set.
"""

import sys

from dpo.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

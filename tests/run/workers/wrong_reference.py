"""train.py with a fault put in: the reference is another random model than the policy's start."""

import sys
from dataclasses import replace

import dpo.run
from dpo.cli import main
from dpo.config.schema import ReferenceConfig
from dpo.model.source import ModelSource


def another(config: ReferenceConfig, policy: ModelSource) -> ModelSource:
    return replace(policy, seed=policy.seed + 1)


dpo.run.reference_source = another
sys.exit(main(sys.argv[1:]))

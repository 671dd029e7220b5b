"""Worker: where the ratio comes from. This project's own step is turned into the usual computation one cause after the
other, in one process over the same pairs; the factors multiply to what these causes explain.

    ours            [prompt][chosen][rejected], each prompt once, rows filled to a token budget
    prompt once     [prompt][chosen] and [prompt][rejected], still without padding
    no padding      two padded rows per pair, in batches of as many pairs as TRL's best setting takes
    answer-only head  every position is projected to the vocabulary (TRL does so wherever Triton is missing)
    fewer syncs     as many values are read back per micro-batch as TRL logs
    cached reference  the reference's forward in every step (TRL's best setting may have precomputed it as well)
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from comparison.jobs import Job, answer, read_job
from comparison.ours import now, overrides
from dpo.config.compose import compose_run
from dpo.config.schema import OptimConfig
from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.data.rows import MicroBatches, fill_rows
from dpo.distributed.plain import PlainEngine
from dpo.loss import Loss
from dpo.model import attention
from dpo.model.scorer import Scorer

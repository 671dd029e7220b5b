"""`python -m dpo plan-step`: which pairs a step of a run reads, and where. No weights are loaded, no workers meet."""

import logging
from pathlib import Path

from dpo.build_data import build_data
from dpo.build_groups import build_groups
from dpo.config.compose import Composed
from dpo.config.identity import run_name
from dpo.config.schema import RunConfig
from dpo.data.plan import DataPlan
from dpo.data.plan_table import plan_table
from dpo.data.rows import MicroBatches
from dpo.errors import ConfigError
from dpo.losses.loss import Loss
from dpo.model.load import without_weights
from dpo.model.scorer import choose_layout
from dpo.model.source import ModelSource
from dpo.preempt import StopRequest
from dpo.records import RunFolder
from dpo.start import prepare

log = logging.getLogger(__name__)


def plan_step(composed: Composed, number: int, workers: int) -> str:
    """The plan of the step that metrics.jsonl calls `number`, on `workers` workers.

    Raises:
        UserError: as a run would, and for a step that the run does not have.
    """
    source, text = prepare(composed)
    config = composed.config
    micro = _micro_batches(config, source, workers)
    folder = RunFolder(Path(config.output_dir) / run_name(config))
    groups = build_groups(config, build_data(config, text, folder, None, StopRequest()), Loss(config.loss))
    plan = DataPlan(groups.train, seed=config.seed, global_batch_size=config.optim.global_batch_size)
    total = plan.total_steps(config.optim.epochs, config.optim.max_steps)
    if number > total:
        raise ConfigError(
            [f"plan-step {number}: this run ends with step {total} (optim.epochs={config.optim.epochs:g} decides)"]
        )
    return plan_table(plan, number - 1, micro)


def _micro_batches(config: RunConfig, source: ModelSource, workers: int) -> MicroBatches:
    """As dpo/run.py has them."""
    sharing = config.zero.sequence_parallel
    if workers % sharing:
        raise ConfigError([f"zero.sequence_parallel={sharing} must divide the {workers} workers"])
    layout, why = choose_layout(without_weights(source), config.layout)
    if why:
        log.info("layout=padded: %s", why)
    return MicroBatches(
        layout=layout,
        max_tokens=config.optim.micro_batch_tokens * sharing,
        max_pairs=config.optim.micro_batch_pairs,
        world_size=workers // sharing,
        slices=sharing,
    )

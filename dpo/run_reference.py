"""`python -m dpo reference`: the reference pass alone, for a run or a sweep that follows. No policy, no optimizer."""

import logging

from dpo.build_data import build_data
from dpo.build_groups import build_groups
from dpo.build_reference import fill_reference
from dpo.config.compose import Composed
from dpo.errors import ConfigError
from dpo.losses.loss import Loss
from dpo.preempt import Stopped, StopRequest
from dpo.start import start

log = logging.getLogger(__name__)


def run_reference(composed: Composed, stop: StopRequest) -> int:
    """Returns the exit code, 0 when everything is there or when stopped on request.

    Raises:
        UserError: anything the user can cure.
    """
    began = start(composed, stop)
    config, world = began.config, began.world
    if config.reference.kind != "cached":
        raise ConfigError([f"reference={config.reference.kind} keeps nothing on disk: use reference=cached"])
    try:
        with world.watchdog.explained():
            sets = build_data(config, began.text, began.folder, world, stop)
            groups = stop.alone(lambda: build_groups(config, sets, Loss(config.loss)))
            fill_reference(config, began.source, groups, world, stop)
        log.info("reference: complete for %d train / %d held-out pairs", len(sets.train), len(sets.held_out))
    except Stopped:
        log.info("stopped %.1f s after: %s; the same command continues from there", stop.seconds(), stop.reason)
    world.close()
    return 0

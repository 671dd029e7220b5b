"""The beginning that training and the commands which only compute have in common: settings, text, workers."""

import logging
import signal
from dataclasses import dataclass
from pathlib import Path

from dpo.build_data import Text, build_text
from dpo.config.checks import check, check_device
from dpo.config.compose import Composed
from dpo.config.derive import derive
from dpo.config.identity import run_name
from dpo.config.schema import RunConfig
from dpo.determinism import make_deterministic
from dpo.distributed import launcher
from dpo.distributed.world import World, start_world
from dpo.log import quiet_model_loading
from dpo.model import attention, kernels, remote_code, ulysses
from dpo.model.shape import require_shape
from dpo.model.source import ModelSource, policy_source, reference_source
from dpo.optim import require_optimizer
from dpo.preempt import StopRequest
from dpo.progress import clock_time
from dpo.records import RunFolder
from dpo.track.choose import require_tracker

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Start:
    """A job whose workers have met."""

    config: RunConfig
    source: ModelSource
    text: Text
    world: World
    folder: RunFolder


def start(composed: Composed, stop: StopRequest) -> Start:
    """Check and complete the settings, then join the other workers. What `stop` hears from then on is agreed with them.

    Raises:
        UserError: settings that contradict each other, no such model, a machine that lacks something.
    """
    config = composed.config
    source, text = prepare(composed)  # fails when there is no such model, before processes wait for each other
    require_optimizer(config.optim)
    require_tracker(config.track)
    if (seconds := stop.set_deadline(config.checkpoint.deadline)) is not None:
        log.info("checkpoint.deadline=%s: stopping in %s", config.checkpoint.deadline, clock_time(seconds))
    if config.deterministic:
        log.info("%s", make_deterministic())
    hidden_size = getattr(text.model.get_text_config(), "hidden_size", None)
    world = start_world(config.zero, config.optim, config.precision, hidden_size)
    stop.join(world)
    launcher.leave_with_launcher(signal.SIGTERM)
    device = world.device.type
    check_device(config, device, kernels.missing(config.model.kernels, device))
    world.watchdog.heed = stop.interrupt
    assert config.guard.hang_seconds is not None  # derived
    world.watchdog.start(world.rank, world.size, config.guard.hang_seconds)
    sharing = f", {world.sequence_size} to a row" if world.sequence is not None else ""
    log.info("workers: %d on %s%s, precision %s", world.size, device, sharing, world.precision)
    quiet_model_loading()
    attention.register()
    ulysses.register()
    folder = RunFolder(Path(config.output_dir) / run_name(config))
    return Start(config=config, source=source, text=text, world=world, folder=folder)


def prepare(composed: Composed) -> tuple[ModelSource, Text]:
    """What one process needs to know before it reads data: the settings checked and complete, the model's tokenizer.

    Raises:
        UserError: settings that contradict each other, no such model.
    """
    config = composed.config
    check(config)
    for note in [*composed.notes, *derive(config)]:
        log.info("%s", note)
    source = policy_source(config.model, config.seed)
    if config.model.trust_remote_code:
        _warn_of_code(source, reference_source(config.reference, source))  # before any of it runs
    with remote_code.allowed(source):
        text = build_text(config.model, source)
    require_shape(config.model.shape, text.model, source)
    return source, text


def _warn_of_code(*sources: ModelSource) -> None:
    for source in {source.setting: source for source in sources}.values():
        if warning := remote_code.warning(source):
            log.warning("%s", warning)
        else:
            log.info("model.trust_remote_code=true: %s brings no Python code, none is run", source.name)

"""Which trackers a run has."""

import importlib.util
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from dpo.config.schema import TrackConfig
from dpo.errors import EnvironmentProblem
from dpo.track.tensorboard_tracker import TensorboardTracker
from dpo.track.tracker import NullTracker, Several, Tracker
from dpo.track.wandb_tracker import WandbTracker

_MODE_WORDS = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "off"}

_logger = logging.getLogger("dpo")


def require_tracker(settings: TrackConfig) -> None:
    """Raises EnvironmentProblem when TensorBoard is asked for and not installed."""
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise EnvironmentProblem(
            "track.tensorboard=true needs the package tensorboard, which is not installed: pip install "
            "'tensorboard>=2.20,<3' (or the extra: pip install -e '.[tensorboard]'), or set it to false."
        )


def make_tracker(settings: TrackConfig, folder: Path, is_main: bool) -> Tracker:
    """What `track.wandb`, WANDB_MODE and `track.tensorboard` ask for, its files inside the run's `folder`."""
    mode = wanted_mode(settings.wandb, os.environ) if is_main else "off"
    wanted: list[Tracker] = []
    if mode != "off":
        wanted.append(WandbTracker(folder=folder, mode=mode, project=settings.project, entity=settings.entity))
    if settings.tensorboard and is_main:
        wanted.append(TensorboardTracker(folder=folder / "tensorboard"))
    if len(wanted) > 1:
        return Several(trackers=wanted)
    return wanted[0] if wanted else NullTracker()


def wanted_mode(setting: str, environment: Mapping[str, str]) -> str:
    """off, offline, online or auto. `track.wandb` decides; where it is auto, WANDB_MODE does if it says anything.

    An empty WANDB_MODE, as job scripts leave it, counts as absent (wandb itself ends in a validation error on it).
    """
    if setting != "auto":
        return setting
    word = environment.get("WANDB_MODE", "").strip().lower()
    if word and word not in _MODE_WORDS:
        _logger.warning("WANDB_MODE=%s is unknown and ignored (online, offline or disabled)", word)
    return _MODE_WORDS.get(word, "auto")

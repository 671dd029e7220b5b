"""Every loss by its name. `loss=mix` adds up several of them, see dpo/losses/loss.py."""

from dpo.config.losses import LossConfig
from dpo.losses import absolute, likelihood, logistic, shapes, transport
from dpo.losses.kind import LossKind

FAMILIES = (logistic, shapes, absolute, transport, likelihood)
LOSSES: dict[str, LossKind] = {kind.name: kind for family in FAMILIES for kind in family.KINDS}


def kind_of(knobs: LossConfig) -> LossKind:
    """By its knobs' class: a name can be overridden on the command line, which the checks then refuse."""
    return next(kind for kind in LOSSES.values() if kind.knobs is type(knobs))

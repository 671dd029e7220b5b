"""The groups of a run: which pairs the model reads together, and whether they are what the loss asks for."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpo.config.losses import KtoLossConfig
from dpo.config.schema import RunConfig
from dpo.data.groups import Groups, chosen_alone, group_pairs, joined
from dpo.data.mismatched import mismatched
from dpo.data.sets import DataSets
from dpo.data.store.pairs import PairView
from dpo.errors import DataError
from dpo.losses.loss import Loss

log = logging.getLogger(__name__)

# Of desirable_weight * good answers / (undesirable_weight * bad ones): Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8.
BALANCED = (1.0, 4 / 3)
ANSWERS = ("chosen_ids", "rejected_ids")
PAIRED = ("rewards/accuracies", "rewards/margins")  # metrics of two answers


@dataclass(kw_only=True, slots=True)
class Sides:
    """What is trained on and what is held out, as the model reads it."""

    train: Groups
    held_out: Groups
    supplied: bool  # whether rows bring reference log-probabilities of their own
    # For losses that ask for it: the prompt of every group with the answers to another one.
    train_mismatched: Groups | None = None
    held_out_mismatched: Groups | None = None

    @property
    def sections(self) -> list[Groups]:
        """All whose responses need a reference."""
        found = (self.train, self.held_out, self.train_mismatched, self.held_out_mismatched)
        return [groups for groups in found if groups is not None]


def build_groups(config: RunConfig, sets: DataSets, loss: Loss) -> Sides:
    """The pairs of a prompt together where the loss compares answers, as far as they fit into a step.

    Raises:
        DataError: unpaired rows under a loss that compares; rows bring reference log-probabilities that contradict each
            other or reference=, or lack the margin or the other prompt that the loss needs.
    """
    _require_pairs(sets, loss, config)
    together = config.data.group_by_prompt and loss.compares
    most = config.optim.global_batch_size if together else 1

    def group(pairs: PairView) -> Groups:
        return chosen_alone(pairs) if loss.answers == "chosen" else group_pairs(pairs, most)

    # A pair that an epoch sees twice stands in two groups: in one, both would always fall into the same step.
    parts = [group(sets.train.some(places)) for places in sets.passes]
    sides = [joined(sets.train.some(np.concatenate(sets.passes)), parts), group(sets.held_out)]
    own = next((side[int(side.known().argmax())] for side in sides if side.known().any()), None)
    if own and config.reference.kind in ("sharded", "adapter_off", "moving"):
        raise DataError(
            f"{own.sources[0]} brings reference log-probabilities (ref_chosen_logps, ref_rejected_logps), but "
            f"reference={config.reference.kind} computes them in every step: use reference=cached, or "
            "data.reference_logps=ignore"
        )
    if loss.needs_margin:
        _require_margins(sides)
    found = Sides(train=sides[0], held_out=sides[1], supplied=own is not None)
    if loss.needs_mismatched:
        found.train_mismatched, found.held_out_mismatched = mismatched(sides[0]), mismatched(sides[1])
    return found


def _require_margins(sides: list[Groups]) -> None:
    lacking = [(side, side.members[np.isnan(side.pairs.take("margin", side.members))]) for side in sides]
    count = sum(len(numbers) for _, numbers in lacking)
    if count:
        first = next(side.pairs[int(numbers[0])] for side, numbers in lacking if len(numbers))
        raise DataError(
            f"{first.source} has no `margin`, nor have {count - 1} other pairs, but loss=odpo asks for a reward "
            "margin as large as that of the row: add the column (how much better the chosen answer is), or use another "
            "loss, such as loss=sigmoid"
        )


def _require_pairs(sets: DataSets, loss: Loss, config: RunConfig) -> None:
    """Unpaired rows suit a loss that judges every answer by itself."""
    sides = [sets.train, sets.held_out]
    single = [_single(side) for side in sides]
    count = sum(map(np.count_nonzero, single))
    if not count:
        return
    if not loss.takes_unpaired:
        first = next(side[int(found.argmax())] for side, found in zip(sides, single, strict=True) if found.any())
        raise DataError(
            f"{first.source} and {count - 1} more rows hold one answer with a label, and loss={config.loss.name} "
            "compares two: use loss=kto or loss=bco, or loss=sft (loss.answers=chosen), which learns the good ones"
        )
    best = config.checkpoint.best
    if best in PAIRED and len(sets.held_out) and single[1].all():
        raise DataError(f"checkpoint.best={best} compares answers, and no held-out row has two: checkpoint.best=loss")
    good = sum(np.count_nonzero(side.lengths("chosen_ids")[found]) for side, found in zip(sides, single, strict=True))
    what = "left out" if loss.answers == "chosen" else "made less likely"
    log.info("unpaired rows: %d good answers are learnt, %d bad ones %s", good, count - good, what)
    seen = np.concatenate(sets.passes)
    n_good, n_bad = (int(np.count_nonzero(sets.train.lengths(name)[seen])) for name in ANSWERS)
    if loss.answers == "chosen" and not n_good:
        raise DataError("no training row holds a good answer, which loss=sft would learn: all labels are false")
    _weigh(loss, n_good, n_bad)


def _single(side: PairView) -> NDArray[np.bool_]:
    """[n] which of them are unpaired rows."""
    if not side.unpaired:
        return np.zeros(len(side), bool)
    good, bad = (side.lengths(name) > 0 for name in ANSWERS)
    return good != bad


def _weigh(loss: Loss, n_good: int, n_bad: int) -> None:
    """A warning where kto's weights do not make up for how many good and bad answers there are."""
    low, high = BALANCED
    for knobs in (term.knobs for term in loss.terms if isinstance(term.knobs, KtoLossConfig)):
        good, bad = knobs.desirable_weight * n_good, knobs.undesirable_weight * n_bad
        if low * bad <= good <= high * bad or not (good and bad):
            continue
        name, least = ("desirable_weight", low * bad / n_good)
        if good > high * bad:
            name, least = ("undesirable_weight", good / high / n_bad)
        advice = (
            f"loss=kto: desirable_weight * {n_good} good answers is {good / bad:.2g} of undesirable_weight * {n_bad} "
            f"bad ones; its authors advise {low:g} to {high:.2f}: {name}={least:.3g} to {least * high:.3g}"
        )
        log.warning("%s", advice)

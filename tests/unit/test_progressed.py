"""What counts as done when steps are not applied."""

import pytest

from dpo.data.batch import Counts
from dpo.data.plan import StepPlan
from dpo.progressed import Progressed

pytestmark = pytest.mark.unit

PLAN = StepPlan(
    step=0,
    epoch=0.1,
    groups=[0],
    members=[],
    counts=Counts(pairs=16, tokens=150),
    digest="00000000",
)


def after(*steps: str) -> Progressed:
    """g: applied; b: not finite; s: not applied because the loss scale was too large."""
    done = Progressed()
    for step in steps:
        done.count(PLAN, applied=step == "g", bad=step == "b")
    return done


def test_only_applied_steps_train_pairs() -> None:
    done = after(*"ggbsg")
    assert (done.step, done.pairs, done.tokens, done.skipped, done.bad) == (5, 48, 450, 2, 1)


@pytest.mark.parametrize(("steps", "row"), [("gbb", 2), ("bgb", 1), ("bbg", 0), ("bsb", 1), ("bbb", 3), ("", 0)])
def test_bad_steps_in_a_row(steps: str, row: int) -> None:
    assert after(*steps).bad_in_a_row == row


def test_back_to_before_bad_steps_is_as_if_they_had_not_been() -> None:
    done = after(*"gsbgbb")
    done.before_bad()
    assert done == after(*"gsbg")
    done.before_bad()
    assert done == after(*"gsbg")


def test_a_rollback_keeps_the_place_in_the_data() -> None:
    now = after(*"ggggbbb")
    done = after(*"gg")  # of the checkpoint
    done.after_rollback(now)
    assert (done.step, done.pairs, done.skipped, done.bad, done.rollbacks) == (7, 32, 3, 3, 1)
    assert done.bad_in_a_row == 0
    again = Progressed()
    again.load_state_dict(done.state_dict())
    assert again == done

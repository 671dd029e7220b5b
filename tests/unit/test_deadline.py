"""checkpoint.deadline: durations, times, the end of a Slurm job, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.deadline import SLURM_END, seconds_left
from dpo.errors import ConfigError

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h50m", 3 * 3600 + 50 * 60),
        ("90s", 90),
        ("1d2h3m4s", 86400 + 2 * 3600 + 3 * 60 + 4),
        ("2d", 2 * 86400),
        ("3:50:00", 3 * 3600 + 50 * 60),
        ("1-12:00:00", 36 * 3600),
        ("2-6", 54 * 3600),
        ("0-6:30", 6 * 3600 + 30 * 60),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert seconds_left(text, NOW, {}) == seconds


@pytest.mark.parametrize("text", ["2026-11-21T18:30+00:00", "2026-11-21T19:30:00+01:00", "2026-11-21T18:30:00Z"])
def test_a_time_with_a_zone_means_the_same_on_every_machine(text: str) -> None:
    assert seconds_left(text, NOW, {}) == 1800


def test_a_time_without_a_zone_is_this_machines() -> None:
    here = (NOW + timedelta(hours=2)).astimezone().replace(tzinfo=None)
    assert seconds_left(here.isoformat(), NOW, {}) == 7200


@pytest.mark.parametrize("text", ["90", "3:50", "soon", "", "0s", "3h 50m", "50m3h", "-1h", "1-", "12:60"])
def test_what_is_no_deadline_is_refused_with_the_forms(text: str) -> None:
    """A bare number could be seconds or, as in Slurm, minutes; 3:50 minutes or hours."""
    with pytest.raises(ValueError, match=r"3h50m, 90s.*2026-11-21T18:00.*auto or null"):
        seconds_left(text, NOW, {})


def test_a_time_that_has_passed_is_refused() -> None:
    with pytest.raises(ValueError, match="has passed: it is 2026-11-21T18:00:00"):
        seconds_left("2026-11-21T17:59+00:00", NOW, {})


@pytest.mark.parametrize(("job_seconds", "left"), [(4 * 3600, 4 * 3600 - 120), (300, 270), (-50, -45)])
def test_auto_leaves_room_before_the_end_of_a_slurm_job(job_seconds: int, left: float) -> None:
    """Of a job that should be over already nothing is left: the run stops at once."""
    environment = {SLURM_END: str(int(NOW.timestamp()) + job_seconds)}
    assert seconds_left("auto", NOW, environment) == left
    assert seconds_left("20m", NOW, environment) == 1200, "what is asked for counts"
    assert seconds_left(None, NOW, environment) is None


@pytest.mark.parametrize("environment", [{}, {SLURM_END: ""}, {SLURM_END: "Unknown"}])
def test_auto_without_an_end_is_none(environment: dict[str, str]) -> None:
    assert seconds_left("auto", NOW, environment) is None


@pytest.mark.parametrize(
    ("given", "held"),
    [("3h50m", "3h50m"), ("1-12:00:00", "1-12:00:00"), ("2099-01-01T18:00", "2099-01-01T18:00"), ("null", None)],
)
def test_it_passes_through_the_command_line(given: str, held: str | None) -> None:
    config = compose_run([f"checkpoint.deadline={given}"], 1).config
    check(config)
    assert config.checkpoint.deadline == held


def test_a_wrong_one_is_a_problem_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"checkpoint.deadline=90: expected a duration since the start \(3h50m"):
        check(compose_run(["checkpoint.deadline=90"], 1).config)

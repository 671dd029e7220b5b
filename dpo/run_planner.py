"""`python -m dpo plan`: memory, time and cost of a run on machines that are named, before it is queued. No weights, no
GPU; no network where the model is on this machine or conf/model states its shape."""

from pathlib import Path

from dpo.build_plan import planned_architecture, planned_job
from dpo.config.checks import check
from dpo.config.compose import Composed, compose_run
from dpo.config.derive import derive, plans_dir
from dpo.config.identity import run_name
from dpo.config.schema import RunConfig
from dpo.model.source import policy_source
from dpo.planner import scaling, text
from dpo.planner.architecture import Architecture
from dpo.planner.choices import Found
from dpo.planner.estimate import Estimate
from dpo.planner.picture import draw
from dpo.planner.search import search, ways_to_fit


def run_planner(composed: Composed) -> str:
    """What the command says.

    Raises:
        UserError: settings that contradict each other, no such model.
    """
    config = _settled(composed.overrides, composed.config.plan.gpus)
    model = planned_architecture(config, policy_source(config.model, config.seed))
    job = planned_job(config, model)
    if config.plan.scaling:
        return text.scaled(scaling.scaling(job, config.plan.host_gib))
    planned = Estimate(job=job, host_gib=config.plan.host_gib)
    ways = [] if planned.fits else _checked(ways_to_fit(job, config.plan.host_gib), composed.overrides, model)
    said = text.full(planned, ways)
    if config.plan.search:
        found = search(job, config.plan.host_gib, config.plan.goal)
        said += "\n" + text.best(_checked(found, composed.overrides, model), config.plan.goal)
    return f"{said}\n{draw(planned, _picture(config))}\n"


def _settled(overrides: list[str], gpus: int) -> RunConfig:
    """As a run on so many workers would have it: zero=auto follows from their number."""
    config = compose_run(overrides, gpus).config
    check(config)
    derive(config)
    return config


def _checked(found: list[Found], overrides: list[str], model: Architecture) -> list[Found]:
    """Each composed as it would be typed, and planned again: what is shown has been through all checks."""
    return [one for one in (_again(one, overrides, model) for one in found) if one.estimate.fits]


def _again(found: Found, overrides: list[str], model: Architecture) -> Found:
    changed = {text.split("=")[0] for text in found.overrides}
    kept = [text for text in overrides if text.split("=")[0] not in changed]
    config = _settled([*kept, *found.overrides], found.estimate.job.workers)
    return Found(overrides=found.overrides, estimate=_estimate(config, model))


def _estimate(config: RunConfig, model: Architecture) -> Estimate:
    return Estimate(job=planned_job(config, model), host_gib=config.plan.host_gib)


def _picture(config: RunConfig) -> Path:
    plan = config.plan
    return Path(plans_dir(config)) / f"{run_name(config)}-{plan.gpus}x{plan.gpu}.png"

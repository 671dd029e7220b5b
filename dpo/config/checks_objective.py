"""What `data.objective` asks for, held together."""

import math

from dpo.config.schema import ObjectiveConfig


def objective_problems(objective: ObjectiveConfig) -> list[str]:
    """One line per problem, each with the setting to change."""
    default = ObjectiveConfig()
    problems = [
        f"data.objective.weights.{name}={weight:g}: give a finite number other than 0"
        for name, weight in objective.weights.items()
        if not (math.isfinite(weight) and weight)
    ]
    if not objective.weights and (objective.margin, objective.contradicts) != (default.margin, default.contradicts):
        problems.append(
            f"data.objective.margin={str(objective.margin).lower()} and contradicts={objective.contradicts} have no "
            "effect without data.objective.weights: give the weights of the dimensions"
        )
    return problems

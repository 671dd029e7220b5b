"""The errors a user can cause. Each says what was found, what was expected and the setting to change.

They reach the screen as one message without a traceback (see `dpo.cli`); any other exception is a fault of this
program and keeps its traceback.
"""


class UserError(Exception):
    """Base of every error that the user can cure; its text is the whole message."""


class ConfigError(UserError):
    """Settings that are unknown, out of range or contradict each other: all of them, each with its cure."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        head = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{head} in the configuration:\n" + "\n".join(f"  - {p}" for p in problems))


class DataError(UserError):
    """Preference data that cannot be trained on as it is."""


class ModelError(UserError):
    """A model, tokenizer or adapter that cannot be loaded or does not suit the run."""


class EnvironmentProblem(UserError):
    """Something on the machine (launcher, compiler, process group) that keeps the run from starting."""


class SelfCheckError(UserError):
    """The run's own check of its first numbers failed: the wiring is wrong, training would be wasted."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written, or one that does not belong to this run."""


class BadNumbersError(UserError):
    """Losses or gradients that stay infinite or undefined: training cannot go on by itself."""


class CacheError(UserError):
    """Kept reference values that are not there, or more than one where one was asked for."""


class RunError(UserError):
    """A run that is not there, not finished, or has not measured what is asked of it."""

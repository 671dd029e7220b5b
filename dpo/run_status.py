"""`python -m dpo status`: one run, found by its folder or by its settings."""

from pathlib import Path

from dpo.config.compose import Composed
from dpo.config.derive import derive
from dpo.config.identity import run_name
from dpo.errors import ConfigError
from dpo.records import RunFolder
from dpo.status import describe


def run_status(composed: Composed, words: list[str]) -> tuple[str, int]:
    """The line, and the exit code.

    Raises:
        ConfigError: more than one folder.
    """
    if len(words) > 1:
        raise ConfigError([f"status {' '.join(words)}: expected one run folder, or settings"])
    config = composed.config
    derive(config)
    text, code = describe(RunFolder(Path(words[0]) if words else Path(config.output_dir) / run_name(config)))
    return f"{text}\n", code

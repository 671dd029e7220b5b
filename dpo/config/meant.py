"""What is wrong with a setting of the command line, and what the user probably meant."""

import difflib
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Dictionaries without a schema, whose keys may be new: DeepSpeed's own settings, what a chat template takes, the names
# of the data's dimensions.
FREE = ("zero.deepspeed.", "model.chat_template_arguments.", "data.objective.weights", "launch.env.")


def choice_problem(override: Override, groups: dict[str, list[str]]) -> list[str]:
    key, value = override.key_or_group, override.get_value_string()
    if key not in groups or value in groups[key]:
        return []
    return [f"{key}={value}: no such choice.{_meant(value, groups[key])} Choices: {', '.join(groups[key])}"]


def setting_problem(base: DictConfig, override: Override) -> list[str]:
    """Is this a setting of the chosen groups, and does the value have its type?"""
    key = override.key_or_group
    if key.startswith(FREE):
        return []
    if key.split(".")[0] == "launch" and "launch" not in base:
        return [f"{key}: how a run is submitted to a cluster is a setting of launch/submit.py, not of the run"]
    node: Any = base
    for depth, part in enumerate(key.split(".")):
        parent = ".".join(key.split(".")[:depth])
        if isinstance(node, ListConfig):  # data.sources.0.weight
            if not part.isdigit() or int(part) >= len(node):
                return [f"{key}: no such setting. {parent} has {len(node)} entries, numbered from 0"]
            node = node[int(part)]
            continue
        if not isinstance(node, DictConfig):
            return [f"{key}: no such setting. {parent} is a single value"]
        if part not in node:
            names = sorted(str(name) for name in node)
            meant = _meant(part, names, parent) if parent else _meant_anywhere(key, base)
            return [f"{key}: no such setting.{meant} {f'{parent} has' if parent else 'There are'}: {', '.join(names)}"]
        node = node._get_node(part)
    try:
        OmegaConf.update(base.copy(), key, override.value())
    except OmegaConfBaseException as error:
        return [f"{key}={override.get_value_string()}: {first_line(error)}"]
    return []


def _meant_anywhere(key: str, base: DictConfig) -> str:
    """For a key whose group is missing or misspelt: `beta` means loss.beta, `trak.every` track.every."""
    sections = {str(name): value for name, value in base.items()}
    names = [f"{name}.{part!s}" for name, value in sections.items() if isinstance(value, DictConfig) for part in value]
    ends = [name for name in names if name.split(".")[1] == key]
    return f" Did you mean {ends[0]}?" if ends else _meant(key, [*names, *sections])


def _meant(word: str, names: list[str], parent: str = "") -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f" Did you mean {parent + '.' if parent else ''}{close[0]}?" if close else ""


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

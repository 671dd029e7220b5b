"""The command line and conf/ -> RunConfig. The only importer of hydra and omegaconf.

Hydra's own composition stops at its first problem. Here the overrides are looked at beforehand, so that a message
lists all of them, each with what the user probably meant.
"""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpo.config import schema
from dpo.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"

# Naming a file or a model by its path chooses the group that takes one.
IMPLIED = {"data.path": "data=files", "model.path": "model=hf"}


@dataclass(kw_only=True, slots=True)
class Composed:
    """A composed configuration and what the log should say about how it came to be."""

    config: schema.RunConfig
    notes: list[str] = field(default_factory=list)


def compose_run(overrides: list[str], world_size: int) -> Composed:
    """Compose conf/train.yaml with `overrides`; `zero=auto` is decided by `world_size`.

    Raises:
        ConfigError: unknown groups, choices or settings, values of the wrong type; all of them at once.
    """
    parsed = _parse(overrides)
    notes: list[str] = []
    chosen = {o.key_or_group for o in parsed}
    extra = []
    for key, choice in IMPLIED.items():
        group = key.split(".")[0]
        if key in chosen and group not in chosen:
            extra.append(choice)
            notes.append(f"{choice}, since {key} is given")
    if not any(o.key_or_group == "zero" and o.get_value_string() != "auto" for o in parsed):
        extra.append(f"zero={'zero3' if world_size > 1 else 'off'}")
        notes.append(
            f"zero=auto: {world_size} workers, so ZeRO-3" if world_size > 1 else "zero=auto: one worker, so plain torch"
        )
        overrides = [text for text, o in zip(overrides, parsed, strict=True) if o.key_or_group != "zero"]
        parsed = [o for o in parsed if o.key_or_group != "zero"]
    _register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        groups = [text for text, o in zip(overrides, parsed, strict=True) if o.key_or_group in _groups()]
        settings = [o for o in parsed if o.key_or_group not in _groups()]
        base = _compose([*extra, *groups])
        if problems := [problem for o in settings for problem in _setting_problem(base, o)]:
            raise ConfigError(problems)
        composed = _compose([*extra, *overrides])
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError([_first_line(error)]) from error
    assert isinstance(config, schema.RunConfig)
    if "data" not in chosen and "data.path" not in chosen:
        pairs = config.data.path or "the demo pairs"
        notes.append(f"data={pairs}, since none is named: data= or data.path= choose others")
    return Composed(config=config, notes=notes)


def as_yaml(config: schema.RunConfig) -> str:
    """The configuration as config.yaml holds it."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def as_dict(config: schema.RunConfig) -> dict[str, Any]:
    """Plain nested dictionaries, for trackers and for comparing two runs."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """A config.yaml that `as_yaml` wrote, as plain dictionaries."""
    plain = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def choices() -> dict[str, list[str]]:
    """Every group with its choices, as the files under conf/ name them."""
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(CONF.iterdir())
        if folder.is_dir()
    }


def _compose(overrides: list[str]) -> DictConfig:
    try:
        return compose("train", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([_first_line(error)]) from error


def _parse(overrides: list[str]) -> list[Override]:
    """Parse every override and hold it to what this trainer accepts; all problems at once."""
    problems, parsed = [], []
    for text in overrides:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except HydraException:
            problems.append(
                f"`{text}` is not of the form group=choice or group.setting=value (quote values with spaces)"
            )
            continue
        parsed.append(override)
        problems += _form_problem(override, text)
    if problems:
        raise ConfigError(problems)
    return parsed


def _form_problem(override: Override, text: str) -> list[str]:
    if override.type is not OverrideType.CHANGE:
        return [f"`{text}`: settings cannot be added or deleted, only changed; leave out the {text[0]} in front"]
    if override.is_sweep_override():
        return [f"`{text}` is a sweep; one launch trains one run: write a loop over launches instead"]
    known = _groups()
    key = override.key_or_group
    if key in known and (value := override.get_value_string()) not in known[key]:
        return [f"{key}={value}: no such choice.{_meant(value, known[key])} Choices: {', '.join(known[key])}"]
    if "." not in key and key not in known and key not in _top_settings():
        names = [*known, *_top_settings()]
        return [f"{key}: no such group or setting.{_meant(key, names)} There are: {', '.join(names)}"]
    return []


def _setting_problem(base: DictConfig, override: Override) -> list[str]:
    """Is this a setting of the chosen groups, and does the value have its type?"""
    key = override.key_or_group
    node: Any = base
    for depth, part in enumerate(key.split(".")):
        if not isinstance(node, DictConfig) or (part not in node and not _is_free(node)):
            parent = ".".join(key.split(".")[:depth])
            names = sorted(str(name) for name in node) if isinstance(node, DictConfig) else []
            where = f"{parent} has" if names else f"{parent} is a value, it has no"
            return [f"{key}: no such setting.{_meant(part, names, parent)} {where}: {', '.join(names) or 'settings'}"]
        node = node._get_node(part)
        if isinstance(node, DictConfig) and _is_free(node):
            return []
    try:
        OmegaConf.update(base.copy(), key, override.value())
    except OmegaConfBaseException as error:
        return [f"{key}={override.get_value_string()}: {_first_line(error)}"]
    return []


def _is_free(node: DictConfig) -> bool:
    """A plain dictionary inside the schema (DeepSpeed's own configuration), whose keys are not ours to know."""
    return OmegaConf.get_type(node) is dict


def _meant(word: str, names: list[str], parent: str = "") -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f" Did you mean {parent + '.' if parent else ''}{close[0]}?" if close else ""


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _groups() -> dict[str, list[str]]:
    return choices()


def _top_settings() -> list[str]:
    return [name for name in schema.RunConfig.__dataclass_fields__ if name not in _groups()]


def _register_schemas() -> None:
    """Hydra's store of schemas: /schema/<group> and /schema/<group>/<choice> where a choice has its own knobs."""
    GlobalHydra.instance().clear()
    store = ConfigStore.instance().store
    store(group="schema", name="run", node=schema.RunConfig)
    single = {
        "model": schema.ModelConfig,
        "data": schema.DataConfig,
        "reference": schema.ReferenceConfig,
        "optim": schema.OptimConfig,
        "zero": schema.ZeroConfig,
        "checkpoint": schema.CheckpointConfig,
        "track": schema.TrackConfig,
        "eval": schema.EvalConfig,
        "guard": schema.GuardConfig,
    }
    for group, node in single.items():
        store(group="schema", name=group, node=node)
    store(group="schema/adapter", name="none", node=schema.AdapterConfig)
    store(group="schema/adapter", name="lora", node=schema.LoraAdapterConfig)
    store(group="schema/loss", name="sigmoid", node=schema.SigmoidLossConfig)
    store(group="schema/loss", name="sft", node=schema.SftLossConfig)

"""The command line and conf/ -> RunConfig. The only importer of hydra and omegaconf.

Hydra's own composition stops at its first problem. Here the overrides are looked at beforehand, so that a message
lists all of them, each with what the user probably meant.
"""

import os
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
from dpo.config.keys import keys_in_overrides
from dpo.config.launch import LaunchConfig
from dpo.config.losses import SCHEMAS
from dpo.config.meant import FREE, choice_problem, first_line, setting_problem
from dpo.errors import ConfigError
from dpo.redact import redact

CONF = Path(__file__).parents[2] / "conf"
LAUNCH = "launch"  # the one folder in it that is no group of a run

# Naming a file or a model by its path chooses the group that takes one.
IMPLIED = {"data.path": "data=files", "data.sources": "data=files", "model.path": "model=hf"}


@dataclass(kw_only=True, slots=True)
class Composed:
    """A composed configuration and what the log should say about how it came to be."""

    config: schema.RunConfig
    notes: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)  # that it was composed with


def compose_run(overrides: list[str], world_size: int) -> Composed:
    """Compose conf/train.yaml with `overrides`; `zero=auto` is decided by `world_size`.

    Raises:
        ConfigError: unknown groups, choices or settings, values of the wrong type; all of them at once. Or keys and
            passwords, these alone: other messages repeat what was given.
    """
    if keys := keys_in_overrides(overrides):
        raise ConfigError(keys)
    parsed = _parse(overrides)
    groups = choices()
    given = [o.key_or_group for o in parsed]
    notes, extra = _implied(parsed, world_size)
    texts = [("++" if key.startswith(FREE) else "") + text for key, text in zip(given, overrides, strict=True)]
    texts = [text for key, text in zip(given, texts, strict=True) if key != "zero"]
    problems = [problem for o in parsed for problem in choice_problem(o, groups)]
    wrong = {problem.split("=")[0] for problem in problems}
    _register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sound = [t for t in texts if (key := t.split("=")[0]) in groups and key not in wrong]
        base = _compose([*extra, *sound])
        settings = [o for o in parsed if o.key_or_group not in groups and o.key_or_group.split(".")[0] not in wrong]
        problems += [problem for o in settings for problem in setting_problem(base, o)]
        if problems:
            raise ConfigError(problems)
        composed = _compose([*extra, *texts])
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError([first_line(error)]) from error
    assert isinstance(config, schema.RunConfig)
    if not {"data", "data.path", "data.sources"} & set(given):
        pairs = config.data.path or "the demo pairs"
        notes.append(
            f"model={config.model.path or config.model.build}, pairs: {pairs} (data= or data.path= choose others)"
        )
    return Composed(config=config, notes=notes, overrides=overrides)


def as_yaml(config: schema.RunConfig) -> str:
    """The configuration as config.yaml holds it, without secrets: `--cfg` shows what nobody has checked yet."""
    return OmegaConf.to_yaml(OmegaConf.create(redact(as_dict(config), os.environ)))


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
        if folder.is_dir() and folder.name != LAUNCH
    }


def sites() -> list[str]:
    """The choices of `launch=`."""
    return sorted(file.stem for file in (CONF / LAUNCH).glob("*.yaml"))


def compose_launch(overrides: list[str]) -> LaunchConfig:
    """Compose conf/launch/<site>.yaml with the `launch.<setting>=` of a submission.

    Raises:
        ConfigError: see `compose_run`.
    """
    if keys := keys_in_overrides(overrides):
        raise ConfigError(keys)
    parsed = _parse(overrides)
    site = next((o.get_value_string() for o in parsed if o.key_or_group == LAUNCH), "default")
    if problems := [problem for o in parsed for problem in choice_problem(o, {LAUNCH: sites()})]:
        raise ConfigError(problems)
    settings = [o for o in parsed if o.key_or_group != LAUNCH]
    texts = [("++" if o.key_or_group.startswith(FREE) else "") + str(o.input_line) for o in settings]
    _register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        base = _compose([], f"{LAUNCH}/{site}")
        if problems := [problem for o in settings for problem in setting_problem(base, o)]:
            raise ConfigError(problems)
        composed = _compose(texts, f"{LAUNCH}/{site}")
    try:
        config = OmegaConf.to_object(composed[LAUNCH])
    except OmegaConfBaseException as error:
        raise ConfigError([first_line(error)]) from error
    assert isinstance(config, LaunchConfig)
    return config


def parse_sweep(overrides: list[str]) -> list[tuple[str, list[str]]]:
    """(key, settings) per override: one setting, or one for each value of `loss=sigmoid,ipo` and the like.

    Raises:
        ConfigError: see `compose_run`.
    """
    if keys := keys_in_overrides(overrides):
        raise ConfigError(keys)
    found = []
    for text, override in zip(overrides, _parse(overrides, sweeps=True), strict=True):
        key = override.key_or_group
        values = override.sweep_string_iterator() if override.is_sweep_override() else None
        found.append((key, [text] if values is None else [f"{key}={value}" for value in values]))
    return found


def _implied(parsed: list[Override], world_size: int) -> tuple[list[str], list[str]]:
    """(notes, choices) that follow from what is given: groups named by a path, and the ZeRO stage."""
    given = {o.key_or_group: o.get_value_string() for o in parsed}
    notes, extra = [], []
    for key, choice in IMPLIED.items():
        if key in given and choice.split("=")[0] not in given and choice not in extra:
            extra.append(choice)
            notes.append(f"{choice}, since {key} is given")
    zero = given.get("zero", "auto")
    if zero == "auto":
        zero = "zero3" if world_size > 1 else "off"
        notes.append(
            f"zero=auto: {'one worker, so plain torch' if zero == 'off' else f'{world_size} workers, so ZeRO-3'}"
        )
    if zero in choices()["zero"]:
        extra.append(f"zero={zero}")
    return notes, extra


def _compose(overrides: list[str], name: str = "train") -> DictConfig:
    try:
        return compose(name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([first_line(error)]) from error


def _parse(overrides: list[str], *, sweeps: bool = False) -> list[Override]:
    """Parse every override; all that are not of the form key=value at once. `sweeps`: several values are welcome."""
    problems, parsed = [], []
    for text in overrides:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except HydraException:
            problems.append(f"`{text}` is not of the form group=choice or group.setting=value (quote blanks)")
            continue
        parsed.append(override)
        if override.type is not OverrideType.CHANGE:
            problems.append(f"`{text}`: settings cannot be added or deleted, only changed; leave out the {text[0]}")
        elif override.is_sweep_override() and not sweeps:
            problems.append(f"`{text}` is a sweep; one launch trains one run: python -m dpo sweep starts one per value")
    if problems:
        raise ConfigError(problems)
    return parsed


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
        LAUNCH: LaunchConfig,
        "doctor": schema.DoctorConfig,
        "plan": schema.PlanConfig,
    }
    for group, node in single.items():
        store(group="schema", name=group, node=node)
    store(group="schema/adapter", name="none", node=schema.AdapterConfig)
    store(group="schema/adapter", name="lora", node=schema.LoraAdapterConfig)
    store(group="schema/reference", name="moving", node=schema.MovingReferenceConfig)
    for loss in SCHEMAS:
        store(group="schema/loss", name=loss().name, node=loss)

"""Cross-checks of the settings that say which pairs are read."""

from dpo.config.schema import DataConfig, SourceConfig
from dpo.data.read.listing import is_glob, is_local, suffix_of


def data_problems(data: DataConfig) -> list[str]:
    """Everything that contradicts something else, each with the setting to change."""
    problems = [*_which(data), *_hub_only("data", data.path, data)]
    problems += _splits(data)
    for number, source in enumerate(data.sources):
        problems += _source(f"data.sources[{number}]", source)
    names = [source.name for source in data.sources if source.name]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"data.sources: two of them have the name {name}: every source needs a name of its own")
    if data.decontaminate_drop is not None and not data.decontaminate:
        problems.append(
            f"data.decontaminate_drop={data.decontaminate_drop:g} has no effect without data.decontaminate: name the "
            "benchmark's files there"
        )
    return problems


def _which(data: DataConfig) -> list[str]:
    """One of data.path, data.sources and data.demo, and held-out data that suits it."""
    problems = []
    path = None if data.path == "???" else data.path
    if not path and not data.sources and not data.demo:
        problems.append(
            "data.path is not set: give a file or a hub name, several in data.sources, or data=demo for the built-in "
            "pairs"
        )
    if path and data.demo:
        problems.append(f"data.path={path} and data.demo={data.demo}: choose one; data=files takes a path")
    if data.sources and data.demo:
        problems.append(f"data.sources and data.demo={data.demo}: choose one; data=files takes sources")
    if path and data.sources:
        problems.append(f"data.path={path} and data.sources: choose one, or add the path to the sources")
    if data.sources and data.eval_split and not data.eval_path:
        problems.append(
            f"data.eval_split={data.eval_split} alone belongs to data.path: with data.sources set data.eval_path too, "
            "or neither, and eval.fraction of all prompts is held out"
        )
    if data.streaming and not _hub_paths(data):
        problems.append("data.streaming=true is for hub data sets, and there is none: files are always streamed")
    if data.demo and data.decontaminate:
        problems.append("data.decontaminate has no effect on pairs made by code: remove it, or set data.path")
    return problems


def _splits(data: DataConfig) -> list[str]:
    """A file or a glob has no splits: asking for one would give the same rows."""
    given = [
        ("data.split", data.path, data.split if data.split != "train" else None),
        ("data.eval_split", data.eval_path or data.path, data.eval_split),
        *((f"data.sources[{i}].split", source.path, source.split) for i, source in enumerate(data.sources)),
    ]
    return [
        f"{key}={split} has no effect on {path}, which has no splits: remove it, or name a folder or a hub data set"
        for key, path, split in given
        if path and split and (suffix_of(path) or is_glob(path))
    ]


def _hub_paths(data: DataConfig) -> list[str]:
    paths = [data.path, data.eval_path, *(source.path for source in data.sources)]
    return [path for path in paths if path and not is_local(path)]


def _source(key: str, source: SourceConfig) -> list[str]:
    problems = _hub_only(key, source.path, source)
    if not source.path:
        problems.append(f"{key}.path is not set: give a file or a hub name")
    if source.weight is not None and source.count is not None:
        problems.append(
            f"{key}: weight={source.weight:g} and count={source.count} both say how often it is seen: choose one"
        )
    return problems


def _hub_only(key: str, path: str | None, section: DataConfig | SourceConfig) -> list[str]:
    """What chooses a part or version of a hub data set would be passed over in silence elsewhere."""
    given = {"revision": section.revision, "subset": section.subset, "data_dir": section.data_dir}
    if path is None:
        why = "has no effect without data.path: remove it, or set it on one of data.sources"
    elif is_local(path):
        why = f"has no effect on {path}, which means files on this machine: remove it"
    else:
        return []
    return [f"{key}.{name}={value} {why}" for name, value in given.items() if value]

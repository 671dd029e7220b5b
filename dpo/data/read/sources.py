"""The data settings as origins: one for data.path, one for each of data.sources, and one for held-out data."""

from pathlib import Path

from dpo.config.schema import DataConfig, SourceConfig
from dpo.data.read.listing import is_local, short_name
from dpo.data.read.origin import Origin
from dpo.data.select.mix import Share


def training_origins(config: DataConfig) -> list[Origin]:
    """Where the training pairs come from, in the order of the settings. Every origin has a name of its own."""
    if config.path is not None:
        return [
            Origin(
                path=config.path,
                name=short_name(config.path),
                format=config.format,
                split=config.split,
                revision=config.revision,
                subset=config.subset,
                data_dir=config.data_dir,
                streaming=config.streaming,
                limit=config.limit,
            )
        ]
    names = source_names(config.sources)
    files = [Path(source.path or "").name for source in config.sources]
    return [
        _source_origin(config, number, name, label=config.sources[number].path if files.count(file) > 1 else None)
        for number, (name, file) in enumerate(zip(names, files, strict=True))
    ]


def held_out_origin(config: DataConfig) -> Origin:
    """Held-out data. `data.revision` belongs to `data.path`; `eval_split` alone is a split of `data.path`."""
    own_path = config.eval_path is not None
    path = config.eval_path or config.path or ""
    return Origin(
        path=path,
        name=short_name(path),
        format=config.format,
        split=config.eval_split or config.split,
        revision=None if own_path else config.revision,
        subset=None if own_path else config.subset,
        data_dir=None if own_path else config.data_dir,
        streaming=config.streaming,
        limit=config.limit,
        setting="data.eval_path" if own_path else "data.path",
        split_setting="data.eval_split",
    )


def source_shares(config: DataConfig) -> dict[str, Share]:
    """Name of each of data.sources -> what it gives to an epoch; empty when there is one source alone."""
    return {
        name: Share(weight=1.0 if source.weight is None else source.weight, count=source.count)
        for name, source in zip(source_names(config.sources), config.sources, strict=True)
    }


def source_names(sources: list[SourceConfig]) -> list[str]:
    """The name of every source: the given one, or one made from its path, with a number where that is taken."""
    names: list[str] = []
    given = {source.name for source in sources if source.name}
    for source in sources:
        made = short_name(source.path or "")
        numbered = [made, *(f"{made}-{n}" for n in range(2, len(sources) + 2))]
        free = next((name for name in numbered if name not in given and name not in names), made)
        names.append(source.name or free)
    return names


def _source_origin(config: DataConfig, number: int, name: str, label: str | None) -> Origin:
    source = config.sources[number]
    return Origin(
        path=source.path or "",
        name=name,
        label=label if label and is_local(label) else None,
        format=source.format or config.format,
        split=source.split or config.split,
        revision=source.revision,
        subset=source.subset,
        data_dir=source.data_dir,
        streaming=config.streaming,
        limit=config.limit,
        setting=f"data.sources[{number}].path",
        split_setting=f"data.sources[{number}].split",
    )

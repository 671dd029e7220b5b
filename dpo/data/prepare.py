"""The whole way from the data settings to what is trained on and what is held out: what the assembly calls.

recipes -> obtain (dpo/data/store: prepared pairs on disk) -> select (dpo/data/select: numbers of pairs) -> DataSets
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpo.config.schema import DataConfig
from dpo.data.formats.convert import require_used
from dpo.data.read.files import Origin
from dpo.data.select.leaks import find_leaks
from dpo.data.select.split import split_rows
from dpo.data.sets import DataSets, source_note
from dpo.data.store.obtain import Place, load, obtain
from dpo.data.store.pairs import PairStore, PairView, Source
from dpo.data.store.recipe import Recipe, Tools
from dpo.data.text.limits import TokenLimits
from dpo.errors import DataError


@dataclass(kw_only=True, slots=True)
class Recipes:
    """The sources of a run."""

    train: list[Recipe]
    held_out: list[Recipe]  # none: a fraction of the prompts of `train` is held out

    def __iter__(self) -> Iterator[Recipe]:
        return iter([*self.train, *self.held_out])


def prepare(config: DataConfig, eval_fraction: float, tools: Tools, place: Place) -> DataSets:
    """All of it in one process.

    `eval_fraction`: share of the prompts that is held out when the settings name no held-out data. Raises DataError:
    nothing there, or no pair to train on; EnvironmentProblem: the folder cannot be written.
    """
    recipes = data_recipes(config, tools)
    digests = [recipe.digest(place.cache) for recipe in recipes]
    obtain_all(recipes, digests, place)
    sets = select(recipes, digests, place, eval_fraction)
    sets.require_training_pairs()
    return sets


def data_recipes(config: DataConfig, tools: Tools) -> Recipes:
    """What is to be prepared; nothing is read yet. Raises DataError: the settings name no data."""
    if config.path is None:
        return _demo_recipes(config, tools)
    main = Origin(path=config.path, split=config.split, revision=config.revision, limit=config.limit)
    held_out = []
    if config.eval_path is not None or config.eval_split is not None:
        label = config.eval_path or f"split {config.eval_split}"
        held_out = [_recipe(label, _eval_origin(config), config, tools, alone=False)]
    return Recipes(train=[_recipe(main.path, main, config, tools, alone=True)], held_out=held_out)


def obtain_all(recipes: Recipes, digests: list[str], place: Place) -> None:
    """See `obtain`."""
    for recipe, digest in zip(recipes, digests, strict=True):
        obtain(recipe, digest, place)


def _recipe(label: str, origin: Origin, config: DataConfig, tools: Tools, *, alone: bool) -> Recipe:
    return Recipe(name=Path(origin.path).name, label=label, origin=origin, config=config, tools=tools, alone=alone)


def _eval_origin(config: DataConfig) -> Origin:
    """Held-out data. `data.revision` belongs to `data.path`; `eval_split` alone is a split of `data.path`."""
    own_path = config.eval_path is not None
    return Origin(
        path=config.eval_path or config.path or "",
        split=config.eval_split or config.split,
        revision=None if own_path else config.revision,
        limit=config.limit,
        setting="data.eval_path" if own_path else "data.path",
        split_setting="data.eval_split",
    )


def _demo_recipes(config: DataConfig, tools: Tools) -> Recipes:
    if config.demo < 1:
        raise DataError(
            "there is no data: set data.path to a file of preference pairs or a hub data set, "
            "or data.demo to a number of generated pairs"
        )
    from dpo.demo.pairs import demo_pairs  # here: runs on real data need none of it

    train, held_out = demo_pairs(config.demo)
    train = train[: config.limit]
    return Recipes(
        train=[Recipe(name="demo", label="demo", pairs=train, config=config, tools=tools)],
        held_out=[Recipe(name="demo", label="held-out demo", pairs=held_out, config=config, tools=tools)],
    )


def select(recipes: Recipes, digests: list[str], place: Place, eval_fraction: float) -> DataSets:
    """Which of the prepared pairs are trained on, and which are held out. Raises DataError: a setting changes nothing
    in any source."""
    sources = [load(recipe, digest, place) for recipe, digest in zip(recipes, digests, strict=True)]
    train, held_out = sources[: len(recipes.train)], sources[len(recipes.train) :]
    require_used([(source.manifest.format_name, source.manifest.unused) for source in train])
    limits = recipes.train[0].tools.limits
    return _beside(train, held_out, limits) if held_out else _apart(train, eval_fraction, limits)


def _apart(sources: list[Source], fraction: float, limits: TokenLimits) -> DataSets:
    """A fraction of the prompts is held out."""
    store = PairStore(sources)
    split = split_rows(store.column("prompt"), fraction)
    train, held_out = PairView(store=store, rows=split.train), PairView(store=store, rows=split.held_out)
    sides = [f"{source.manifest.tally.pairs} pairs" for source in sources[:-1]]
    sides.append(f"{len(train)} train / {len(held_out)} held-out")
    notes = [source_note(source, side) for source, side in zip(sources, sides, strict=True)]
    if fraction > 0 and len(train) and not len(held_out):
        notes.append("data: all pairs have the same prompt, so that none is held out; set data.eval_path to evaluate")
    nothing = PairView(store=store, rows=split.train[:0])
    return DataSets(train=train, held_out=held_out, leaked=nothing, sources=sources, limits=limits, notes=notes)


def _beside(sources: list[Source], held: list[Source], limits: TokenLimits) -> DataSets:
    """Held-out data of their own, whose prompts are not trained on."""
    main, other = PairStore(sources), PairStore(held)
    leaks = find_leaks(main.column("prompt"), other.column("prompt"))
    train, leaked = PairView(store=main, rows=leaks.kept), PairView(store=main, rows=leaks.leaked)
    notes = [
        *(source_note(source, f"{source.manifest.tally.pairs} pairs") for source in sources),
        *(source_note(source, f"{source.manifest.tally.pairs} held-out") for source in held),
    ]
    if len(leaked):
        notes.append(
            f"data: {len(leaked)} training pairs left out, because their prompts are also in the held-out data"
        )
    if not len(other):
        notes.append("data: no held-out pair is left: nothing is evaluated")
    held_out = PairView(store=other, rows=np.arange(len(other)))
    return DataSets(
        train=train, held_out=held_out, leaked=leaked, sources=[*sources, *held], limits=limits, notes=notes
    )

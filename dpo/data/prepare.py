"""The whole way from the data settings to what is trained on and what is held out: what the assembly calls.

recipes -> obtain (dpo/data/store: prepared pairs on disk) -> select (dpo/data/select: numbers of pairs) -> DataSets
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dpo.config.schema import DataConfig
from dpo.data.choose import Chooser
from dpo.data.decontaminate.texts import read_benchmark
from dpo.data.formats.convert import require_used
from dpo.data.read.sources import held_out_origin, training_origins
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place, load, obtain
from dpo.data.store.recipe import Recipe, Tools
from dpo.errors import DataError


@dataclass(kw_only=True, slots=True)
class Recipes:
    """The sources of a run."""

    train: list[Recipe]
    held_out: list[Recipe]  # none: a fraction of the prompts of `train` is held out
    config: DataConfig

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
    """What is to be prepared; no row is read yet. Raises DataError: the settings name no data, or a benchmark cannot be
    read."""
    if config.path is None and not config.sources:
        return _demo_recipes(config, tools)
    benchmark = read_benchmark(config.decontaminate) if config.decontaminate else None
    recipes = Recipes(train=[], held_out=[], config=config)
    for origin in training_origins(config):
        recipe = Recipe(name=origin.name, label=origin.where, origin=origin, config=config, tools=tools)
        recipe.benchmark, recipe.alone = benchmark, not config.sources
        recipes.train.append(recipe)
    if config.eval_path is not None or config.eval_split is not None:
        origin = held_out_origin(config)
        label = config.eval_path or f"split {config.eval_split}"
        recipes.held_out.append(Recipe(name=origin.name, label=label, origin=origin, config=config, tools=tools))
    return recipes


def obtain_all(recipes: Recipes, digests: list[str], place: Place) -> None:
    """See `obtain`."""
    for recipe, digest in zip(recipes, digests, strict=True):
        obtain(recipe, digest, place)


def _demo_recipes(config: DataConfig, tools: Tools) -> Recipes:
    if config.demo < 1:
        raise DataError(
            "there is no data: set data.path to a file of preference pairs or a hub data set, data.sources to several, "
            "or data.demo to a number of generated pairs"
        )
    from dpo.demo.pairs import demo_pairs  # here: runs on real data need none of it

    train, held_out = demo_pairs(config.demo)
    train = train[: config.limit]
    return Recipes(
        train=[Recipe(name="demo", label="demo", pairs=train, config=config, tools=tools)],
        held_out=[Recipe(name="demo", label="held-out demo", pairs=held_out, config=config, tools=tools)],
        config=config,
    )


def select(recipes: Recipes, digests: list[str], place: Place, eval_fraction: float) -> DataSets:
    """Which of the prepared pairs are trained on, how often, and which are held out.

    Raises:
        DataError: a setting changes nothing in any source.
    """
    sources = [load(recipe, digest, place) for recipe, digest in zip(recipes, digests, strict=True)]
    train, held_out = sources[: len(recipes.train)], sources[len(recipes.train) :]
    require_used([(source.manifest.format_name, source.manifest.unused) for source in train])
    chooser = Chooser(recipes.config, train, held_out)
    return chooser.choose(eval_fraction, recipes.train[0].tools.limits, recipes.train[0].benchmark)

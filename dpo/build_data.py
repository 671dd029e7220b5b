"""The data side of a run: tokenizer and template, then the prepared pairs."""

import logging
from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from dpo.config.derive import data_cache_dir
from dpo.config.schema import ModelConfig, RunConfig
from dpo.data.findings.findings import Finding, findings, lines
from dpo.data.findings.prepared import measure_sets, step_for
from dpo.data.prepare import data_recipes, obtain_all, select
from dpo.data.rejects import check_rejects, write_rejects
from dpo.data.sets import DataSets
from dpo.data.store.obtain import Place
from dpo.data.store.pool import cores
from dpo.data.store.recipe import Tools
from dpo.data.text.show import render_marked
from dpo.data.text.template import ChatTemplate, choose_template
from dpo.distributed import launcher
from dpo.distributed.world import World
from dpo.errors import ModelError
from dpo.model.limits import token_limits
from dpo.model.source import ModelSource
from dpo.preempt import StopRequest
from dpo.records import RunFolder

log = logging.getLogger(__name__)

MANY_DROPPED = 0.1  # share of the rows left out for their length from which on the log warns
FINDINGS_PAIRS = 200_000  # about so many are looked at for the findings at the start: 70 MB, a second


@dataclass(kw_only=True, slots=True)
class Text:
    """How messages become tokens."""

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    model: PretrainedConfig

    def decode(self, ids: list[int]) -> str:
        """The text of tokens as the model reads them."""
        return str(self.tokenizer.decode(ids))

    def plain(self, ids: list[int]) -> str:
        """The same without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def build_text(config: ModelConfig, source: ModelSource) -> Text:
    model = source.config()
    tokenizer = source.tokenizer()
    if config.eos_token is not None:
        if config.eos_token not in tokenizer.get_vocab():
            raise ModelError(f"model.eos_token={config.eos_token}: the tokenizer's vocabulary has no such token")
        tokenizer.eos_token = config.eos_token
    template = choose_template(tokenizer, config.chat_template, config.chat_template_arguments)
    if template.jinja is not None:
        tokenizer.chat_template = template.jinja  # so that the exported model is used as it was trained
    return Text(tokenizer=tokenizer, template=template, model=model)


def obtain_data(config: RunConfig, text: Text, world: World | None, stop: StopRequest) -> DataSets:
    """The prepared pairs, made now where they are not there yet: by one process of each machine, while the others wait.
    A collective; `world`: None without other workers.

    Raises:
        UserError: no data.
        Stopped: on request.
    """
    limits, note = token_limits(config.data, text.model)
    recipes = data_recipes(config.data, Tools(tokenizer=text.tokenizer, template=text.template, limits=limits))
    place = Place(
        cache=Path(data_cache_dir(config)),
        processes=config.data.workers or cores(),
        prepares=launcher.local_rank() == 0,
        shown=config.track.progress and (world is None or world.is_main),
    )

    def digests() -> list[str]:
        return [recipe.digest(place.cache) for recipe in recipes]

    wanted = world.on_main(digests, stop.alone) if world else stop.alone(digests)
    stop.alone(lambda: obtain_all(recipes, wanted, place))
    sets = stop.alone(lambda: select(recipes, wanted, place, config.eval.fraction))
    sets.notes += [text.template.describe(), note]
    return sets


def build_data(config: RunConfig, text: Text, folder: RunFolder, world: World | None, stop: StopRequest) -> DataSets:
    """Pairs that can be trained on. The main worker writes the rejects, and tells what is wrong with the data.

    Raises:
        UserError: no data, bad rows that are not to be skipped, a tokenizer of another model.
        Stopped: on request.
    """
    sets = obtain_data(config, text, world, stop)
    is_main = world is None or world.is_main
    if is_main:
        write_rejects(folder.rejects, sets.kept_rejects, sets.unused_pairs())
    for line in sets.notes:
        log.info("%s", line)
    for line in sets.warnings:
        log.warning("%s", line)
    check_rejects(sets.rejects, config.data.on_bad_row, folder.rejects)
    sets.require_training_pairs()
    level = logging.WARNING if sets.dropped > MANY_DROPPED * sets.rows_read else logging.INFO
    for line in sets.length_notes():
        log.log(level, "%s", line)
    _require_known_tokens(sets, text)
    step = step_for(sets, FINDINGS_PAIRS)
    _log_findings(stop.alone(lambda: findings(measure_sets(sets, text.plain, step)) if is_main else []), step)
    log.info("first pair, scored tokens marked:\n%s", render_marked(sets.train[0], text.tokenizer))
    return sets


def _log_findings(found: list[Finding], step: int) -> None:
    """The worst first; nothing where there is nothing to say."""
    for finding, line in zip(found, lines(found), strict=False):
        log.log(logging.WARNING if finding.severity == "bad" else logging.INFO, "data: %s", line)
    if found:
        part = f" These are of one in {step} prompts." if step > 1 else ""
        log.info("data: `python -m dpo report` with the same settings shows more, and the pairs to look at.%s", part)


def _require_known_tokens(sets: DataSets, text: Text) -> None:
    """A tokenizer of another model can know more tokens than the embedding has rows; a GPU only aborts then."""
    rows = text.model.get_text_config().vocab_size
    highest, source = sets.highest_token
    if highest >= rows:
        raise ModelError(
            f"{source} holds token {highest} ({text.tokenizer.convert_ids_to_tokens(highest)}), but the model's "
            f"embedding has {rows} rows: the tokenizer in model.path does not belong to this model"
        )

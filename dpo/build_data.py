"""The data side of a run: tokenizer and template, then the pairs read, checked and tokenized."""

import logging
from dataclasses import dataclass

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from dpo.config.schema import ModelConfig, RunConfig, SftLossConfig
from dpo.data.batch import PromptGroup
from dpo.data.group import chosen_alone, group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.prepare import TokenizedSets, check_rejects, read_pairs, tokenize_sets, write_rejects
from dpo.data.text.show import render_marked
from dpo.data.text.template import ChatTemplate, choose_template
from dpo.errors import DataError, ModelError
from dpo.loss import Loss
from dpo.memory import lasting_objects
from dpo.model.limits import token_limits
from dpo.model.source import ModelSource
from dpo.records import RunFolder

log = logging.getLogger(__name__)

MANY_DROPPED = 0.1  # share of the rows left out for their length from which on the log warns


@dataclass(kw_only=True, slots=True)
class Text:
    """How messages become tokens."""

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    model: PretrainedConfig


@dataclass(kw_only=True, slots=True)
class Groups:
    """What is trained on and what is held out, as the model reads it."""

    train: list[PromptGroup]
    held_out: list[PromptGroup]
    supplied: bool  # whether rows bring reference log-probabilities of their own


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


def build_data(config: RunConfig, text: Text, folder: RunFolder, is_main: bool) -> TokenizedSets:
    """Read, check and tokenize the pairs. Every worker does so for itself; the main one writes the rejects."""
    limits, note = token_limits(config.data, text.model)
    pairs = read_pairs(config.data, config.eval.fraction)
    for line in [*pairs.notes, text.template.describe(), note]:
        log.info("%s", line)
    rejects = pairs.rejects
    try:
        sets = tokenize_sets(pairs, text.tokenizer, text.template, limits)
        rejects = [*sets.rejects, *sets.dropped]
    except DataError:
        check_rejects(pairs.rejects, config.data.on_bad_row, folder.rejects)
        raise
    finally:
        if is_main:
            write_rejects(folder.rejects, rejects)
    check_rejects(sets.rejects, config.data.on_bad_row, folder.rejects)
    level = logging.WARNING if len(sets.dropped) > MANY_DROPPED * sets.rows_read else logging.INFO
    for line in sets.notes:
        log.log(level, "%s", line)
    _require_known_tokens(sets, text)
    log.info("first pair, scored tokens marked:\n%s", render_marked(sets.train[0], text.tokenizer))
    return sets


def build_groups(config: RunConfig, sets: TokenizedSets, loss: Loss) -> Groups:
    """The pairs of a prompt together where the loss compares answers, as far as they fit into a step.

    Raises:
        DataError: unpaired rows under a loss that compares; rows bring reference log-probabilities that contradict each
            other or reference=.
    """
    _require_pairs(sets, config)
    together = config.data.group_by_prompt and loss.kind.per == "pair"
    most = config.optim.global_batch_size if together else 1

    def group(pairs: list[TokenizedPair]) -> list[PromptGroup]:
        return (
            chosen_alone([pair for pair in pairs if pair.chosen_ids])
            if loss.answers == "chosen"
            else group_pairs(pairs, most)
        )

    with lasting_objects():
        train, held_out = group(sets.train), group(sets.held_out)
    own = next((g for g in (*train, *held_out) if g.reference is not None), None)
    if own and config.reference.kind in ("sharded", "adapter_off", "moving"):
        raise DataError(
            f"{own.sources[0]} brings reference log-probabilities (ref_chosen_logps, ref_rejected_logps), but "
            f"reference={config.reference.kind} computes them in every step: use reference=cached, or "
            "data.reference_logps=ignore"
        )
    return Groups(train=train, held_out=held_out, supplied=own is not None)


def _require_pairs(sets: TokenizedSets, config: RunConfig) -> None:
    """Unpaired rows suit a loss that learns good answers alone; the bad ones among them are left out there."""
    unpaired = [pair for pair in (*sets.train, *sets.held_out) if not (pair.chosen_ids and pair.rejected_ids)]
    if not unpaired:
        return
    if not (isinstance(config.loss, SftLossConfig) and config.loss.answers == "chosen"):
        raise DataError(
            f"{unpaired[0].source} and {len(unpaired) - 1} more rows hold one answer with a label, and "
            f"loss={config.loss.name} compares two: use loss=sft (loss.answers=chosen), which learns the good ones"
        )
    good = sum(bool(pair.chosen_ids) for pair in unpaired)
    log.info("unpaired rows: %d good answers are learnt, %d bad ones left out", good, len(unpaired) - good)
    if not any(pair.chosen_ids for pair in sets.train):
        raise DataError("no training row holds a good answer, which loss=sft would learn: all labels are false")


def _require_known_tokens(sets: TokenizedSets, text: Text) -> None:
    """A tokenizer of another model can know more tokens than the embedding has rows; a GPU only aborts then."""
    rows = text.model.get_text_config().vocab_size
    for pair in (*sets.train, *sets.held_out):
        if (highest := max([*pair.prompt_ids, *pair.chosen_ids, *pair.rejected_ids])) >= rows:
            raise ModelError(
                f"{pair.source} holds token {highest} ({text.tokenizer.convert_ids_to_tokens(highest)}), but the "
                f"model's embedding has {rows} rows: the tokenizer in model.path does not belong to this model"
            )

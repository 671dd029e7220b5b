"""Assembles a run in one visible order: world -> folder -> data -> model -> reference -> engine -> trainer -> export.

The only place that sees the whole configuration.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from dpo import closing
from dpo.checkpoint import Checkpoints, read_manifest, restore
from dpo.config.checks import check
from dpo.config.compose import Composed, as_dict
from dpo.config.derive import derive
from dpo.config.identity import run_name
from dpo.config.schema import LoraAdapterConfig, RunConfig
from dpo.data.batch import PromptGroup
from dpo.data.group import group_pairs
from dpo.data.plan import DataPlan, MicroBatches
from dpo.data.prepare import TokenizedSets, check_rejects, read_pairs, tokenize_sets, write_rejects
from dpo.data.template import ChatTemplate, choose_template
from dpo.data.tokenize import render_marked
from dpo.distributed.engine import Engine
from dpo.distributed.placement import Placement, shape
from dpo.distributed.plain import PlainEngine
from dpo.distributed.world import World, start_world
from dpo.errors import ConfigError, DataError, ModelError, UserError
from dpo.evaluate.held_out import HeldOut
from dpo.evaluate.samples import CHECKERS, Sampler
from dpo.export import export
from dpo.log import quiet_model_loading
from dpo.loss import Loss
from dpo.model import attention
from dpo.model.adapter import add_lora
from dpo.model.limits import token_limits
from dpo.model.load import load_causal_lm, without_dropout
from dpo.model.reference import AdapterOffReference, FrozenReference, NoReference
from dpo.model.scorer import Scorer, choose_layout
from dpo.model.source import ModelSource, policy_source, reference_source
from dpo.preempt import StopRequest
from dpo.progress import Progress
from dpo.recorder import Recorder
from dpo.records import RunFolder, read_metrics, read_status, write_status
from dpo.run_folder import STOP, open_folder
from dpo.self_check import SelfCheck
from dpo.step import Reference
from dpo.track import make_tracker
from dpo.trainer import Every, Progressed, Trainer

log = logging.getLogger(__name__)

MANY_DROPPED = 0.1  # share of the rows left out for their length from which on the log warns


@dataclass(kw_only=True, slots=True)
class Text:
    """How messages become tokens."""

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    model: PretrainedConfig


@dataclass(kw_only=True, slots=True)
class Policy:
    """The model that learns."""

    scorer: Scorer
    adapted: Any | None  # peft's model around the same weights
    layout: str


def run(composed: Composed) -> int:
    """One run from configuration to exported model. Returns the exit code, 0 when done or stopped on request.

    Raises:
        UserError: anything the user can cure, before or during training; `status.json` then says failed and why.
    """
    config = composed.config
    check(config)
    notes = [*composed.notes, *derive(config)]
    source = policy_source(config.model, config.seed)
    text = _text(config, source)  # fails at once when there is no such model, before any process waits for another
    world = start_world(config.zero, config.optim, config.precision)
    for note in [*notes, f"workers: {world.size} on {world.device.type}, precision {world.precision}"]:
        log.info("%s", note)
    folder = RunFolder(Path(config.output_dir) / run_name(config))
    try:
        _run_in(config, folder, source, text, world)
    except BaseException as error:
        if world.is_main and folder.status.exists():
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            write_status(folder, state="failed", why=why)
        raise
    world.close()
    return 0


def _run_in(config: RunConfig, folder: RunFolder, source: ModelSource, text: Text, world: World) -> None:
    """Everything between joining the other workers and leaving them."""
    _require_precision(config, world)
    log.info("run: %s", folder.path)
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep, world)
    checkpoint = open_folder(config, folder, checkpoints)
    stop = StopRequest(folder.path / STOP)
    stop.install()
    if world.is_main:
        write_status(folder, state="running", why="", name=folder.name)
    sets = _data(config, text, folder, world)
    loss = Loss(config.loss)

    groups = group_pairs(sets.train, loss.answers)
    plan = DataPlan(groups, seed=config.seed, global_batch_size=config.optim.global_batch_size)
    total_steps = plan.total_steps(config.optim.epochs, config.optim.max_steps)
    done = Progressed()
    if checkpoint and read_manifest(checkpoint)["step"] >= total_steps and folder.final.exists():
        log.info("this run is done already; more optim.epochs continue it, another name= or resume=never trains anew")
        return _close(folder, world, total_steps)

    quiet_model_loading()
    attention.register()
    policy = _policy(config, source, world)
    micro = MicroBatches(
        layout=policy.layout,
        max_tokens=config.optim.micro_batch_tokens,
        max_pairs=config.optim.micro_batch_pairs,
        world_size=world.size,
    )
    reference = _reference(config, policy, source, world)
    engine = _engine(config, policy, world)
    trainer = Trainer(
        config=config,
        world=world,
        engine=engine,
        scorer=policy.scorer,
        reference=reference,
        loss=loss,
        plan=plan,
        micro=micro,
        total_steps=total_steps,
        held_out=_held_out(sets, micro, engine, reference, loss, world),
        sampler=_sampler(config, sets, text, world),
        checkpoints=checkpoints,
        recorder=_recorder(config, folder, total_steps, checkpoint, world),
        stop=stop,
        every=Every(record=config.track.every, evaluate=config.eval.every, save=config.checkpoint.every),
        done=done,
    )
    if checkpoint:
        restore(checkpoint, engine, {"progress": done})
    elif config.guard.self_check:
        _self_check(config, trainer, groups)
    log.info("%s", _overview(trainer))
    outcome = trainer.run()
    if outcome == "done":
        export(policy.scorer.causal_lm, policy.adapted, text.tokenizer, folder.final, world)
        trainer.recorder.status(state="done", step=trainer.done.step, why="")
    else:
        trainer.recorder.status(
            state="stopped", step=trainer.done.step, why=stop.reason or "another worker was asked to"
        )
        log.info("stopped after step %d; the same command continues from there", trainer.done.step)
    trainer.recorder.close(0, _summary(folder, world))
    if outcome == "done":
        _close(folder, world, total_steps)


def _text(config: RunConfig, source: ModelSource) -> Text:
    model = source.config()
    tokenizer = source.tokenizer()
    if config.model.eos_token is not None:
        if config.model.eos_token not in tokenizer.get_vocab():
            raise ModelError(f"model.eos_token={config.model.eos_token}: the tokenizer's vocabulary has no such token")
        tokenizer.eos_token = config.model.eos_token
    template = choose_template(tokenizer, config.model.chat_template)
    if template.jinja is not None:
        tokenizer.chat_template = template.jinja  # so that the exported model is used as it was trained
    return Text(tokenizer=tokenizer, template=template, model=model)


def _data(config: RunConfig, text: Text, folder: RunFolder, world: World) -> TokenizedSets:
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
        if world.is_main:
            write_rejects(folder.rejects, rejects)
    check_rejects(sets.rejects, config.data.on_bad_row, folder.rejects)
    level = logging.WARNING if len(sets.dropped) > MANY_DROPPED * sets.rows_read else logging.INFO
    for line in sets.notes:
        log.log(level, "%s", line)
    _require_known_tokens(sets, text)
    log.info("first pair, scored tokens marked:\n%s", render_marked(sets.train[0], text.tokenizer))
    return sets


def _require_known_tokens(sets: TokenizedSets, text: Text) -> None:
    """A tokenizer of another model can know more tokens than the embedding has rows; a GPU reports that as an assert."""
    rows = text.model.get_text_config().vocab_size
    for pair in (*sets.train, *sets.held_out):
        if (highest := max(*pair.prompt_ids, *pair.chosen_ids, *pair.rejected_ids)) >= rows:
            raise ModelError(
                f"{pair.source} holds token {highest} ({text.tokenizer.convert_ids_to_tokens(highest)}), but the model's "
                f"embedding has {rows} rows: the tokenizer in model.path does not belong to this model"
            )


def _policy(config: RunConfig, source: ModelSource, world: World) -> Policy:
    causal_lm = load_causal_lm(source, Placement(world, "policy"))
    layout, why = choose_layout(causal_lm, config.layout)
    if why:
        log.info("layout=padded: %s", why)
    if not config.model.dropout:
        without_dropout(causal_lm)
    if config.model.gradient_checkpointing:
        causal_lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapted = None
    if isinstance(config.adapter, LoraAdapterConfig):
        torch.manual_seed(config.seed)  # the same first adapter on every worker
        adapted = add_lora(causal_lm, config.adapter)
    scorer = Scorer(causal_lm, layout).train()
    trained = sum(shape(p).numel() for p in scorer.parameters() if p.requires_grad)
    total = sum(shape(p).numel() for p in scorer.parameters())
    log.info(
        "model: %s, %s parameters, %s of them trained, layout %s",
        source.name,
        _millions(total),
        _millions(trained),
        layout,
    )
    return Policy(scorer=scorer, adapted=adapted, layout=layout)


def _reference(config: RunConfig, policy: Policy, source: ModelSource, world: World) -> Reference:
    if config.reference.kind == "none":
        return NoReference()
    if config.reference.kind == "adapter_off":
        return AdapterOffReference(policy.scorer, policy.adapted)
    own = reference_source(config.reference, source)
    frozen: nn.Module = Scorer(load_causal_lm(own, Placement(world, "reference")), policy.layout)
    frozen.requires_grad_(False)
    if world.zero:
        from dpo.distributed.zero import shard_frozen

        frozen = shard_frozen(frozen, world)
    return FrozenReference(frozen)


def _engine(config: RunConfig, policy: Policy, world: World) -> Engine:
    if world.zero:
        from dpo.distributed.zero import ZeroEngine

        return ZeroEngine(policy.scorer, config.optim, world)
    return PlainEngine(policy.scorer, config.optim, world)


def _held_out(
    sets: TokenizedSets, micro: MicroBatches, engine: Engine, reference: Reference, loss: Loss, world: World
) -> HeldOut:
    groups = group_pairs(sets.held_out, loss.answers)
    return HeldOut(groups=groups, micro=micro, engine=engine, reference=reference, loss=loss, world=world)


def _sampler(config: RunConfig, sets: TokenizedSets, text: Text, world: World) -> Sampler:
    checker = CHECKERS[config.eval.checker]
    count = max(config.eval.samples, config.eval.checked_prompts if checker else 0)
    return Sampler(
        pairs=sets.held_out[:count],
        n_shown=config.eval.samples,
        max_new_tokens=config.eval.max_new_tokens,
        tokenizer=text.tokenizer,
        end_of_turn=text.template.end_of_turn,
        check=checker,
        world=world,
    )


def _recorder(
    config: RunConfig, folder: RunFolder, total_steps: int, checkpoint: Path | None, world: World
) -> Recorder:
    start = read_manifest(checkpoint)["step"] if checkpoint else 0
    tracker = make_tracker(config.track, folder.path, world.is_main)
    status = read_status(folder) if checkpoint else None
    wandb_id = tracker.start(as_dict(config), folder.name, status.wandb_id if status else None)
    progress = Progress(total_steps, start, enabled=config.track.progress and world.is_main)
    recorder = Recorder(folder, tracker, progress, world.is_main)
    recorder.status(total_steps=total_steps, step=start, wandb_id=wandb_id)
    return recorder


def _self_check(config: RunConfig, trainer: Trainer, groups: list[PromptGroup]) -> None:
    checker = SelfCheck(
        engine=trainer.engine,
        scorer=trainer.scorer,
        reference=trainer.reference,
        loss=trainer.loss,
        layout=trainer.micro.layout,
        world=trainer.world,
    )
    row = trainer.rows(trainer.plan.step(0))[0]
    shortest = min(groups, key=lambda group: group.row_tokens)
    same_weights = config.reference.path in (None, config.model.path)
    log.info("%s", checker.run([groups[g] for g in row], shortest, same_weights))


def _require_precision(config: RunConfig, world: World) -> None:
    if config.precision == "fp16" and world.device.type == "cpu":
        raise ConfigError(["precision=fp16 needs a GPU: on a CPU use precision=fp32, or bf16"])


def _overview(trainer: Trainer) -> str:
    plan = trainer.plan
    n_micro = len(trainer.rows(plan.step(0)))
    return (
        f"training: {sum(group.n_pairs for group in plan.groups)} pairs, {trainer.total_steps} steps of "
        f"{plan.global_batch_size} pairs, {n_micro} micro-batch{'es' if n_micro > 1 else ''} per step and worker"
    )


def _summary(folder: RunFolder, world: World) -> dict[str, Any]:
    """The last held-out numbers, for the tracker's table of runs."""
    rows = [row for row in read_metrics(folder.metrics) if row["split"] == "eval"] if world.is_main else []
    return {f"final/{k}": v for row in rows for k, v in row.items() if k not in ("step", "split")}


def _close(folder: RunFolder, world: World, total_steps: int) -> None:
    if world.is_main:
        write_status(folder, state="done", step=total_steps, why="")
        closing.show(folder)


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"

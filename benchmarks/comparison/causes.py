"""Worker: where the ratio comes from. This project's own step turns into the usual computation one cause after the
other, in one process over the same pairs, so that the factors multiply to what these causes explain together.

    ours              all pairs of a prompt as [prompt][answer][answer]..., rows filled to a token budget
    prompt per pair   [prompt][chosen][rejected] for every pair
    prompt per answer [prompt][chosen] and [prompt][rejected], still without padding
    padding           two padded rows per pair, in batches of as many pairs as TRL's best setting takes
    whole head        every position is projected to the vocabulary, as TRL does where Triton is missing
    syncs             as many values are read back per micro-batch as TRL reads for its log
    reference         the reference's forward in every step
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from comparison.jobs import Job, answer, read_job
from comparison.machine import now
from comparison.ours import overrides
from dpo.build_model import Policy, build_engine, build_policy
from dpo.config.compose import compose_run
from dpo.config.derive import data_cache_dir, derive
from dpo.config.schema import RunConfig
from dpo.data.batch import Batch, PairLogps, PromptGroup
from dpo.data.collate import collate
from dpo.data.groups import group_pairs
from dpo.data.pair import TokenizedPair
from dpo.data.prepare import prepare
from dpo.data.rows import MicroBatches, spread_groups
from dpo.data.store.obtain import Place
from dpo.data.store.recipe import Tools
from dpo.data.text.limits import TokenLimits
from dpo.data.text.template import choose_template
from dpo.distributed.engine import Engine
from dpo.distributed.world import World, start_world
from dpo.losses.loss import Loss
from dpo.model import attention
from dpo.model.source import policy_source

READ_BACK = 13  # .item() calls in DPOTrainer._compute_loss of TRL 1.16

Pairs = list[TokenizedPair]


@dataclass(kw_only=True, slots=True)
class Rung:
    """One form of the step."""

    name: str
    batches: Callable[[Pairs], list[Batch]]  # micro-batches of one step
    padded: bool = False
    read_back: int = 0
    reference: bool = False


@dataclass(kw_only=True, slots=True)
class Ladder:
    """The step in all its forms, over one engine."""

    job: Job
    config: RunConfig
    world: World
    policy: Policy
    engine: Engine
    loss: Loss

    def rungs(self) -> list[Rung]:
        """From this project's step to TRL's; each keeps what the one before it has changed."""
        size = self.job.settings["trl_batch_size"]

        def padded(pairs: Pairs) -> list[Batch]:
            cuts = (pairs[i : i + size] for i in range(0, len(pairs), size))
            return [collate(list(group_pairs(cut)), "padded") for cut in cuts]

        def whole(pairs: Pairs) -> list[Batch]:
            return [every_position(batch) for batch in padded(pairs)]

        last = whole if self.world.device.type == "cpu" else padded  # on a GPU, TRL's head scores answers only too
        return [
            Rung(name="ours", batches=self._packed(most=self.job.global_batch)),
            Rung(name="prompt per pair", batches=self._packed(most=1)),
            Rung(name="prompt per answer", batches=self._apart),
            Rung(name="padding", batches=padded, padded=True),
            Rung(name="whole head", batches=last, padded=True),
            Rung(name="syncs", batches=last, padded=True, read_back=READ_BACK),
            Rung(name="reference", batches=last, padded=True, read_back=READ_BACK, reference=True),
        ]

    def _packed(self, most: int) -> Callable[[Pairs], list[Batch]]:
        micro = MicroBatches(
            layout="packed", max_tokens=self.config.optim.micro_batch_tokens, max_pairs=None, world_size=1
        )
        return lambda pairs: [collate(row, "packed") for row in spread_groups(list(group_pairs(pairs, most)), micro)[0]]

    def _apart(self, pairs: Pairs) -> list[Batch]:
        """Rows of whole pairs in their order, filled to the token budget; every answer with a prompt of its own."""
        rows: list[list[TokenizedPair]] = [[]]
        room = self.config.optim.micro_batch_tokens
        for pair in pairs:
            tokens = 2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids)
            if rows[-1] and tokens > room:
                rows.append([])
                room = self.config.optim.micro_batch_tokens
            rows[-1].append(pair)
            room -= tokens
        return [_without_sharing(row) for row in rows]

    def seconds(self, rung: Rung, steps: list[Pairs]) -> float:
        """One epoch in this form. Batches are made before the clock starts: with this project a thread makes them."""
        made = [rung.batches(pairs) for pairs in steps]
        start = now()
        with self.policy.scorer.plain_model() if rung.padded else nullcontext():
            for batches in made:
                n_pairs = sum(batch.n_pairs for batch in batches)
                for i, batch in enumerate(batches):
                    self._micro_batch(rung, batch.to(self.world.device), n_pairs, last=i == len(batches) - 1)
                self.engine.step(self.job.lr)
        return now() - start

    def _micro_batch(self, rung: Rung, batch: Batch, n_pairs: int, *, last: bool) -> None:
        policy = self.engine.forward(batch)
        reference = policy.detach()
        if rung.reference:
            with torch.no_grad():
                reference = self.engine.forward(batch)
        logps = PairLogps(policy=policy.detach(), reference=reference, tokens=batch.tokens, pairs=batch.pairs)
        _, slope = self.loss.value_and_slope(logps, [n_pairs])
        self.engine.backward((policy * slope).sum(), last)
        for _ in range(rung.read_back):
            policy.detach().sum().item()


def every_position(batch: Batch) -> Batch:
    """The batch with its other positions scored as well, for a response that no pair names."""
    n_positions, n_responses = batch.ids.numel(), len(batch.tokens)
    targets: Tensor = batch.ids.new_zeros(n_positions)
    response = torch.full((n_positions,), n_responses)
    targets[batch.scored], response[batch.scored] = batch.targets, batch.response
    return replace(
        batch,
        scored=torch.arange(n_positions),
        targets=targets,
        response=response,
        tokens=torch.cat([batch.tokens, batch.tokens.new_ones(1)]),
    )


def _without_sharing(pairs: Pairs) -> Batch:
    answers = [
        PromptGroup(prompt_ids=p.prompt_ids, responses=[ids], pairs=[], pair_ids=[], sources=[])
        for p in pairs
        for ids in (p.chosen_ids, p.rejected_ids)
    ]
    sides = torch.arange(2 * len(pairs)).view(-1, 2)
    return replace(collate(answers, "packed"), pairs=sides, n_pairs=len(pairs))


def main() -> None:
    job = read_job()
    tuned = {key: value for key, value in job.settings.items() if "." in key}
    config = compose_run(overrides(replace(job, settings=tuned)), 1).config
    derive(config)
    attention.register()
    world = start_world(config.zero, config.optim, config.precision)
    policy = build_policy(config, policy_source(config.model, config.seed), world)
    ladder = Ladder(
        job=job,
        config=config,
        world=world,
        policy=policy,
        engine=build_engine(config, policy, world),
        loss=Loss(config.loss),
    )
    steps = list(_steps(read(config), job.global_batch))
    rungs = ladder.rungs()
    for rung in rungs if world.device.type == "cuda" else rungs[:1]:  # kernels load and compile, moments are made
        ladder.seconds(rung, steps)
    times = [[ladder.seconds(rung, steps) for rung in rungs] for _ in range(job.epochs)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    answer(job, {rung.name: seconds for rung, seconds in zip(rungs, medians, strict=True)})


def read(config: RunConfig) -> Pairs:
    source = policy_source(config.model, config.seed)
    tokenizer = source.tokenizer()
    template = choose_template(tokenizer, config.model.chat_template)
    assert config.data.max_length is not None
    tools = Tools(tokenizer=tokenizer, template=template, limits=TokenLimits(max_length=config.data.max_length))
    return list(prepare(config.data, 0.0, tools, Place(cache=Path(data_cache_dir(config)))).train)


def _steps(pairs: Pairs, size: int) -> Iterator[Pairs]:
    return (pairs[i : i + size] for i in range(0, len(pairs), size))


if __name__ == "__main__":
    main()

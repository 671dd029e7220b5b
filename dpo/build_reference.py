"""The reference of a run, built from its settings: the values that are kept on disk, or a model beside the policy."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dpo.build_groups import Sides
from dpo.build_model import Policy, layout_of, load
from dpo.config.derive import cache_dir
from dpo.config.schema import MovingReferenceConfig, RunConfig
from dpo.data.rows import MicroBatches
from dpo.digests import FileDigests
from dpo.distributed.engine import Engine
from dpo.distributed.moving import MovingWeights
from dpo.distributed.world import World
from dpo.errors import EnvironmentProblem
from dpo.model.compiled import compile_layers
from dpo.model.kernels import use_kernels
from dpo.model.reference import (
    AdapterOffReference,
    CachedReference,
    FrozenReference,
    NoReference,
    SnapshotReference,
)
from dpo.model.scorer import Scorer
from dpo.model.source import ModelSource, reference_source
from dpo.preempt import StopRequest
from dpo.reference import supplied
from dpo.reference.compute import Pass, missing_rows
from dpo.reference.fingerprint import fingerprint
from dpo.reference.responses import Responses
from dpo.reference.store import Store
from dpo.step import Reference

log = logging.getLogger(__name__)


def build_reference(config: RunConfig, policy: Policy, source: ModelSource, world: World) -> Reference:
    """What the step asks. `cached` expects groups that `fill_reference` has been through."""
    if config.reference.kind == "none":
        return NoReference()
    if config.reference.kind == "cached":
        return CachedReference()
    if config.reference.kind == "adapter_off":
        return AdapterOffReference(policy.scorer, policy.adapted)
    if config.reference.kind == "moving" and policy.adapted is not None:
        return SnapshotReference(policy.scorer, policy.adapted)
    scorer, _ = _load_frozen(config, reference_source(config.reference, source), world, policy.layout)
    return FrozenReference(scorer)


def moving_weights(
    config: RunConfig, engine: Engine, reference: Reference, world: World, total_steps: int
) -> MovingWeights | None:
    """`reference=moving`: the reference's weights, each bound to the policy's that it follows; None for others.

    Raises:
        ModelError: reference.path names a model of another shape.
    """
    settings = config.reference
    if not isinstance(settings, MovingReferenceConfig):
        return None
    assert isinstance(reference, FrozenReference | SnapshotReference)
    moves = (total_steps - 1) // settings.sync_every
    log.log(
        logging.INFO if moves else logging.WARNING,
        "reference: moves every %d steps (reference.sync_every), %d times in the %d steps of this run",
        settings.sync_every,
        moves,
        total_steps,
    )
    return MovingWeights(engine.parameters(), reference.weights(), settings, world)


def fill_reference(config: RunConfig, source: ModelSource, groups: Sides, world: World, stop: StopRequest) -> None:
    """`reference=cached`: give every group its log-probabilities. Those of its rows, those on disk, and the rest
    computed now, by a model that is loaded for nothing else and gone afterwards. A collective.

    Raises:
        UserError: weights that cannot be read, a cache folder that cannot be written, values that cannot be right.
        Stopped: on request. What was computed is on disk.
    """
    if config.reference.kind != "cached":
        return
    own, sections = [groups.train, groups.held_out], groups.sections
    chosen = supplied.choose_spots(own, config.reference.spot_check)
    spots = [section[i] for section, numbers in zip(own, chosen, strict=True) for i in numbers.tolist()]
    checked = [section.some(numbers) for section, numbers in zip(own, chosen, strict=True)]
    if groups.supplied:
        log.info(
            "reference: %d of %d pairs bring their own log-probabilities, %d of them are checked",
            sum(int(section.sizes[section.known()].sum()) for section in own),
            sum(len(section.members) for section in own),
            sum(len(section.members) for section in checked),
        )
    responses = Responses([*sections, *checked])
    if len(responses):
        _look_up_or_compute(config, reference_source(config.reference, source), responses, world, stop)
    supplied.compare(spots, [group for section in checked for group in section], world.precision)


def _look_up_or_compute(
    config: RunConfig, source: ModelSource, responses: Responses, world: World, stop: StopRequest
) -> None:
    store = world.on_main(lambda: _open_store(config, source), stop.alone)
    values = _agreed(world, lambda: responses.look_up(store.lookup), len(responses))
    n_missing = int(np.isnan(values).sum())
    found, total = f"{len(values) - n_missing:,}", f"{len(values):,}"
    doing = f", computing {n_missing:,}" if n_missing else ""
    log.info("reference: %s of %s responses found in %s%s", found, total, store.folder, doing)
    if n_missing:
        _compute(config, source, responses, values, world, store=store, stop=stop)
        world.release_models()
    responses.assign(values)


def _open_store(config: RunConfig, source: ModelSource) -> Store:
    folder = Path(cache_dir(config))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"reference.cache_dir={folder} cannot be made: {error.strerror}") from error
    return Store(folder, fingerprint(source, config.precision, FileDigests(folder, "reference")))


def _compute(
    config: RunConfig,
    source: ModelSource,
    responses: Responses,
    values: NDArray[np.float32],
    world: World,
    *,
    store: Store,
    stop: StopRequest,
) -> None:
    scorer, layout = _load_frozen(config, source, world, layout=None)
    micro = MicroBatches(
        layout=layout,
        max_tokens=int(config.reference.batch_tokens or 0) * world.sequence_size,
        max_pairs=None,
        world_size=world.data_size,
        slice_rank=world.sequence_rank,
        slices=world.sequence_size,
    )
    reference_pass = Pass(
        reference=FrozenReference(scorer), micro=micro, world=world, store=store, responses=responses, stop=stop
    )
    reference_pass.run(missing_rows(responses, values, micro), values)


def _load_frozen(config: RunConfig, source: ModelSource, world: World, layout: str | None) -> tuple[nn.Module, str]:
    """A model that never learns, whole or sharded by an engine of its own, and its layout (None: what suits it)."""
    causal_lm = load(source, "reference", world)
    layout = layout or layout_of(causal_lm, config.layout, world)
    use_kernels(causal_lm, config.model.kernels)  # as the policy's, or their first log-probabilities would differ
    if config.model.compile and not world.zero:  # a frozen model under DeepSpeed is always sharded
        compile_layers(causal_lm)
    frozen: nn.Module = Scorer(causal_lm, layout, world.sequence)
    frozen.requires_grad_(False)
    if world.zero:
        from dpo.distributed.zero import shard_frozen

        frozen = shard_frozen(frozen, world)
    return frozen, layout


def _agreed(world: World, read: Callable[[], NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    """[size] as rank 0 reads it: while each looked for itself, another job could add to what they find."""
    values = read() if world.is_main else np.zeros(size, dtype=np.float32)
    return world.sum(torch.from_numpy(values).to(world.device)).cpu().numpy()

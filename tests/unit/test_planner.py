"""The planner's arithmetic, counted by hand on a model of 2,792 weights, and what it proposes."""

from dataclasses import replace
from typing import Any

import pytest
from planned import job, seven_b, small_model

from dpo.errors import EnvironmentProblem
from dpo.planner.activations import activations, layer_bytes
from dpo.planner.architecture import Architecture
from dpo.planner.choices import apply, every_way, way_of
from dpo.planner.devices import GPUS
from dpo.planner.estimate import Estimate
from dpo.planner.job import Lengths
from dpo.planner.memory import GIB, memory
from dpo.planner.operations import forward_flops, passes_of_matrices, step_flops
from dpo.planner.room import require_room
from dpo.planner.scaling import scaling
from dpo.planner.search import search, ways_to_fit
from dpo.planner.speed import balance, speed
from dpo.planner.state import gathered, state
from dpo.planner.text import best, full, scaled, short, verdict
from dpo.planner.traffic import traffic

pytestmark = pytest.mark.unit

N = 2792
EVEN = Lengths(pairs=1000, held_out=0, prompt=100, answer=50, longest=200, source="made")


def estimated(model: Architecture, **changes: Any) -> Estimate:
    return Estimate(job=job(model, **changes), host_gib=1024)


@pytest.mark.parametrize(
    ("stage", "workers", "precision", "weights", "gradients", "optimizer"),
    [
        (0, 1, "fp32", 4 * N, 4 * N, 8 * N),
        (0, 1, "bf16", 2 * N, 4 * N, 12 * N),
        (1, 4, "fp32", 4 * N, 4 * N, 12 * N / 4),  # DeepSpeed keeps a master of float32 weights too
        (1, 4, "bf16", 2 * N, (4 + 2) * N, 12 * N / 4),  # its sums stand beside gradients in bf16
        (1, 4, "fp16", 2 * N, 4 * N, 12 * N / 4),
        (2, 4, "bf16", 2 * N, 4 * N / 4, 12 * N / 4),
        (3, 4, "fp32", 4 * N / 4 + 4 * N, 4 * N / 4, 12 * N / 4),  # so small that all of it stays gathered
        (3, 4, "bf16", 2 * N / 4 + 2 * N, 4 * N / 4, 12 * N / 4),
    ],
)
def test_state_by_stage(
    stage: int, workers: int, precision: str, weights: float, gradients: float, optimizer: float
) -> None:
    own = state(job(stage=stage, workers=workers, precision=precision))
    assert (own.weights, own.gradients, own.optimizer) == (weights, gradients, optimizer)


def test_eight_bit_moments_offload_and_a_second_model() -> None:
    assert state(job(stage=0, workers=1, eight_bit=True)).optimizer == N * (4 + 2 + 8 / 256)
    moved = job(stage=2, offload_optimizer="cpu")
    assert (state(moved).optimizer, state(moved).gradients) == (0, 0)
    assert memory(moved).host["offloaded"] == 12 * N + 4 * N
    assert state(job(stage=0, workers=1, reference="sharded")).reference == 2 * N
    assert state(job(stage=0, workers=1, reference="cached")).reference == 0
    adapter = job(stage=0, workers=1, trained=100, adapted=True, reference="adapter_off")
    assert (state(adapter).weights, state(adapter).gradients, state(adapter).reference) == (2 * N, 400, 0)


def test_zero3_keeps_what_backward_needs_again_soon() -> None:
    """Of 7B the head of 0.55B, one layer in use, one ahead; the last layer's next use is 1.1e9 elements away."""
    model = seven_b()
    own = job(model, sizes={"stage3_prefetch_bucket_size": 2**26, "stage3_model_persistence_threshold": 2**24})
    expected = model.embedding + model.small_parameters + 2 * model.layer_parameters
    assert gathered(own) == 2 * expected


def test_activations_of_a_layer() -> None:
    """Per token in bf16: two norms of (4 + 2 + 2) * 8; queries and output 2 * 8, gathered keys and values 2 * 4 * (200
    + 2 * 100) / 200; four tensors of 16."""
    own = job(lengths=EVEN)
    assert layer_bytes(own) == 2 * 8 * 8 + 2 * (2 * 8 + 2 * 4 * 2) + 2 * 4 * 16
    assert (
        layer_bytes(job(lengths=EVEN, precision="fp32", on_cpu=True))
        == 2 * 12 * 8 + 4 * (3 * 8 + 2 * 4 + 2 * 4 * 300 / 200) + 4 * 4 * 16
    )


def test_kernels_keep_less_of_a_layer() -> None:
    """Norms without their float32 and normalised copies; three instead of four tensors of the feed-forward block."""
    assert layer_bytes(job()) - layer_bytes(job(kernels=True)) == pytest.approx(2 * 8 * (8 - 4) + 2 * 16)


def test_a_checkpoint_gathers_one_parameter_after_the_other() -> None:
    """Of its 12 bytes per weight the largest counts: the embedding of 800 of 2,792 weights."""
    held = memory(job(seven_b())).phases["checkpoint"]
    assert held["checkpoint"] == 12 * seven_b().embedding
    assert "checkpoint" not in memory(job(seven_b(), workers=1, stage=0)).phases
    on_cpu = job(on_cpu=True, workers=2, stage=1, precision="fp32")
    assert memory(on_cpu).phases["checkpoint"]["checkpoint"] == 12 * N / 2 + 12 * 800


def test_a_reference_that_moves_is_saved_too() -> None:
    assert memory(job(reference="moving")).checkpoint == 16 * N == memory(job()).checkpoint * 4 / 3


def test_checkpointing_keeps_less_and_works_on_one_layer() -> None:
    kept = {kind: activations(job(checkpointing=kind)) for kind in ("none", "selective", "full")}
    tokens = job().fullest_row
    assert kept["none"].kept > kept["selective"].kept > kept["full"].kept > 2 * 2 * 8 * tokens
    assert kept["full"].working - kept["none"].working == pytest.approx(layer_bytes(job()) * tokens)
    moved = activations(job(seven_b(), activation_offload=True))
    assert moved.moved == pytest.approx(26 / 28 * 28 * layer_bytes(job(seven_b())) * job(seven_b()).fullest_row)


def test_rows_are_filled_evenly() -> None:
    """128 pairs of 840 tokens on 8 workers: 13,440 tokens each, in two rows of 6,720."""
    assert (job().micro_batches, job().mean_row) == (2, 6720)
    assert job().fullest_row == pytest.approx(6720 * 1.1)  # steps differ
    assert job(row_tokens=7000).fullest_row == 7000
    assert job(row_tokens=16384).micro_batches == 1
    assert job(row_pairs=4).micro_batches == 4
    assert job(row_tokens=512).mean_row == 840  # a pair is not cut
    assert job(row_tokens=400, sequence=2).mean_row == 420
    assert balance(job(workers=256, per_node=8)) == 0.5  # half of them have no pair


def test_a_step_that_just_fits_fills_its_rows() -> None:
    """13,440 tokens on each worker in the mean, 12,096 to 14,784: sometimes all within one row of 13,000."""
    assert (job(row_tokens=13_000).micro_batches, job(row_tokens=13_000).mean_row) == (2, 6720)
    assert job(row_tokens=13_000).fullest_row == 13_000
    assert job(row_tokens=20_000).fullest_row == pytest.approx(14_784)


def test_the_longest_pair_decides_where_rows_are_short() -> None:
    """2,000 tokens, in one row whatever the limit says; padded, with its prompt of 220 twice."""
    assert job(row_tokens=512).fullest_row == 2000
    assert job(row_tokens=512, sequence=2).fullest_row == 1000
    assert job(row_tokens=512, layout="padded").fullest_row == pytest.approx(2000 * 1060 / 840)


def test_losses_that_compute_more_or_less() -> None:
    """kto computes each prompt with answers to another one too, a loss over the step looks twice at several
    micro-batches, sft at one answer of two."""
    own = job()
    assert (own.forwards, job(mismatched=True).forwards) == (0, 1)
    assert (job(looks_first=True).forwards, job(looks_first=True, row_tokens=16384).forwards) == (1, 0)
    assert passes_of_matrices(job(mismatched=True, looks_first=True)) == passes_of_matrices(own) + 2
    assert traffic(job(mismatched=True)).node == pytest.approx(traffic(own).node * 4 / 3)
    assert speed(job(mismatched=True)).reference_hours == pytest.approx(2 * speed(own).reference_hours)
    assert replace(EVEN, answers=1).row == 150 and replace(EVEN, answers=1).scores == EVEN.scores - 6250
    assert (EVEN.padded, EVEN.padded_scores) == (300, 150**2)


def test_operations_by_hand() -> None:
    """Two per weight and token: 2 layers of 592 over 200 tokens a pair, the head of 800 over 100 scored ones; scores:
    100^2 / 2 + 2 * (50 * 100 + 50^2 / 2) products of 2 numbers in each of 4 heads and 2 layers, twice."""
    own = job(lengths=EVEN, global_batch=1)
    matrices, scores = forward_flops(own)
    assert matrices == 2 * (1184 * 200 + 800 * 100)
    assert scores == 2 * 2 * 2 * 8 * (5000 + 2 * (5000 + 1250))
    assert step_flops(own) == 3 * matrices + 3.5 * scores
    assert passes_of_matrices(job(checkpointing="full", reference="sharded")) == 5
    assert passes_of_matrices(job(adapted=True)) == 2


def test_traffic_by_stage() -> None:
    own = {stage: traffic(job(stage=stage, workers=4)).node for stage in (0, 1, 2, 3)}
    assert own[0] == pytest.approx(8 * N * 0.75)
    assert own[1] == pytest.approx(6 * N * 0.75)
    n = job(workers=4).micro_batches
    assert own[2] == pytest.approx((n + 1) * 2 * N * 0.75)
    assert own[3] == pytest.approx(n * 3 * 2 * N * 0.75)
    assert traffic(job(stage=3, workers=1)).node == 0
    two_nodes = traffic(job(stage=3, workers=16, per_node=8))
    assert two_nodes.network == pytest.approx(3 * 2 * N * 0.5 / 8)  # the node needs the other half, by 8 links


def test_the_part_that_fits_and_the_part_that_is_over_are_said() -> None:
    fine, over = (
        estimated(seven_b(), checkpointing="full"),
        estimated(seven_b(), workers=1, stage=0),
    )
    assert fine.fits and verdict(fine).startswith("fits with ") and "GiB to spare" in verdict(fine)
    assert not over.fits and "does not fit: " in verdict(over) and " GiB over" in verdict(over)
    assert short(fine).startswith("plan: fits")
    crowded = Estimate(job=job(seven_b(), checkpointing="full"), host_gib=100)
    assert not crowded.fits and "host" in verdict(crowded)
    for part in ("weights", "gradients", "optimizer", "activations", "buffers", "reserve", "GPU-hours", "TFLOP"):
        assert part in full(fine, [])
    table = full(fine, []).split("memory per GPU")[1].split("together")[1].split()
    assert [float(size) for size in table[:4]] == sorted((float(size) for size in table[:4]), reverse=True)


def test_a_rest_within_the_error_is_said_and_not_proposed() -> None:
    held = memory(job(seven_b(), checkpointing="full")).peak / GIB
    tight = replace(GPUS["h100-80gb"], memory_gib=held * 1.02)
    assert "within the error" in verdict(estimated(seven_b(), checkpointing="full", device=tight))
    proposals = ways_to_fit(job(seven_b(), stage=0, checkpointing="full", device=tight), 1024)
    assert proposals and all(one.estimate.spare_gib > 0.05 * tight.memory_gib for one in proposals)


def test_memory_never_grows_with_what_saves_it() -> None:
    """More workers, more sharding, shorter rows, more checkpointing."""
    base = job(seven_b())
    for better in (
        {"workers": 16, "per_node": 8},
        {"row_tokens": 4096},
        {"checkpointing": "selective"},
        {"activation_offload": True},
        {"eight_bit": True},
    ):
        assert memory(job(seven_b(), **better)).peak < memory(base).peak, better
    assert [memory(job(seven_b(), stage=s)).certain for s in (0, 1, 2, 3)] == sorted(
        (memory(job(seven_b(), stage=s)).certain for s in (0, 1, 2, 3)), reverse=True
    )


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_proposals_fit_and_say_how_they_are_asked_for(workers: int) -> None:
    own = job(seven_b(), workers=workers, stage=0, row_tokens=32768)
    assert not Estimate(job=own, host_gib=1024).fits
    found = ways_to_fit(own, 1024)
    assert 1 <= len(found) <= 4
    for one in found:
        assert one.estimate.fits and one.overrides
        assert one.estimate.job.workers == workers
    hours = [one.estimate.gpu_hours for one in found]
    assert hours == sorted(hours)


def test_where_nothing_fits_more_gpus_are_proposed() -> None:
    found = ways_to_fit(job(seven_b(), workers=1, stage=0), host_gib=64)
    assert found and all(one.overrides[0].startswith("plan.gpus=") for one in found)
    assert ways_to_fit(job(seven_b(), workers=1, stage=0, on_cpu=True), host_gib=64) == []


def test_what_is_no_choice_is_not_tried() -> None:
    tried = [one.estimate.job for one in every_way(job(workers=1), 1024, [1])]
    assert {(one.stage, one.offload_optimizer) for one in tried} == {(0, None), (2, "cpu"), (3, "cpu")}
    assert {one.sequence for one in tried} == {1}
    shared = {one.estimate.job.sequence for one in every_way(job(workers=8), 1024, [8])}
    assert shared == {1, 2, 4}  # four heads
    assert not any(one.estimate.job.offload_optimizer for one in every_way(job(eight_bit=True), 1024, [8]))


def test_a_way_is_what_it_says() -> None:
    own = job(seven_b())
    assert apply(own, way_of(own)) == own
    one = next(one for one in every_way(own, 1024, [8]) if len(one.overrides) == 1)
    assert sum(a != b for a, b in zip(way_of(own), way_of(one.estimate.job), strict=True)) == 1


def test_search_orders_by_its_goal() -> None:
    fastest, cheapest = (search(job(seven_b()), 1024, goal) for goal in ("fastest", "cheapest"))
    assert len(fastest) == len(cheapest) == 10
    hours = [one.estimate.speed.hours for one in fastest]
    assert hours == sorted(hours) and hours[0] <= estimated(seven_b()).speed.hours
    costs = [one.estimate.gpu_hours for one in cheapest]
    assert costs == sorted(costs) and costs[0] <= fastest[0].estimate.gpu_hours
    assert best(fastest, "fastest").count("\n") == 12
    assert best([], "fastest") == "nothing of what was tried fits\n"


def test_communication_takes_over_as_gpus_are_added() -> None:
    rows = scaling(job(seven_b(), checkpointing="full"), 1024)
    shares = [row.own.speed.exposed_seconds / row.own.speed.step_seconds for row in rows]
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] > 0.5
    assert [row.own.gpu_hours for row in rows] == sorted(row.own.gpu_hours for row in rows)
    assert scaled(rows).count("\n") >= 9


def test_a_run_is_refused_only_when_what_is_certain_is_too_much() -> None:
    own = job(seven_b(), workers=1, stage=0)
    needs = memory(own).certain / GIB
    assert needs == pytest.approx(18 * seven_b().parameters / GIB)
    enough = replace(own, device=replace(own.device, memory_gib=needs))
    assert not Estimate(job=enough, host_gib=1024).fits  # activations and more come on top, by estimate
    require_room(enough, lambda: pytest.fail("looked for ways without need"))
    with pytest.raises(EnvironmentProblem, match=r"alone need .* GiB per worker.*plan.force=true") as caught:
        require_room(own, lambda: ways_to_fit(own, 1024))
    assert "zero2_offload" in str(caught.value) or "zero3_offload" in str(caught.value)
    with pytest.raises(EnvironmentProblem, match=r"What would fit: \d+ workers zero=zero\d"):
        require_room(own, lambda: ways_to_fit(own, 64))


def test_frozen_weights_on_a_cpu_are_not_certain() -> None:
    """They may be pages of their file."""
    settings = {"workers": 1, "stage": 0, "trained": 10, "adapted": True}
    assert memory(job(on_cpu=True, **settings)).certain < memory(job(**settings)).certain


def test_time_follows_from_the_stated_efficiency() -> None:
    half, whole = (speed(job(seven_b(), efficiency=share)) for share in (0.25, 0.5))
    assert half.compute_seconds > 1.8 * whole.compute_seconds
    assert whole.pairs_per_second == pytest.approx(128 / whole.step_seconds)
    assert whole.hours == pytest.approx(whole.training_hours + whole.reference_hours + whole.evaluation_hours)
    assert speed(job(seven_b(), reference="sharded")).reference_hours == 0


def test_a_cpu_keeps_the_memory_of_small_blocks() -> None:
    """glibc does not give back what training's activations took; a copy for a checkpoint then comes on top of it."""
    own = job(small_model(), on_cpu=True, workers=1, stage=0, precision="fp32", saves_copy=True)
    assert set(memory(own).phases) == {"training", "reference pass", "self-check", "checkpoint", "export"}
    assert memory(own).phases["checkpoint"]["activations"] > 0
    assert memory(own).host == {}

"""Rows that several workers share: what each holds, and which models and settings are refused."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Phi3Config

from dpo.config.checks import check
from dpo.config.compose import compose_run
from dpo.config.schema import OptimConfig, ZeroConfig
from dpo.data.batch import Batch, PromptGroup
from dpo.data.collate import collate
from dpo.data.sequence import shard_sequence
from dpo.distributed.world import start_world
from dpo.errors import ConfigError, ModelError
from dpo.model import attention
from dpo.model.scorer import Scorer
from dpo.model.ulysses import require_shareable

pytestmark = pytest.mark.unit


def row(*shapes: tuple[int, list[int]]) -> Batch:
    """Groups of (prompt length, response lengths), every token of the data another one."""
    ids = iter(range(10_000))
    groups = [
        PromptGroup(
            prompt_ids=[next(ids) for _ in range(prompt)],
            responses=[[next(ids) for _ in range(length)] for length in lengths],
            pairs=[(0, 1)],
            pair_ids=[f"{prompt}"],
            sources=[""],
        )
        for prompt, lengths in shapes
    ]
    return collate(groups, "packed")


ROWS = {
    "several groups": row((5, [4, 3]), (1, [1, 1]), (9, [2, 6])),
    "one long prompt": row((30, [2, 2])),
    "shorter than the workers are many": row((1, [1, 1])),
}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ROWS)
def test_slices_are_equally_long_and_share_out_everything_once(name: str, size: int) -> None:
    whole = ROWS[name]
    length = whole.ids.shape[1]
    parts = [shard_sequence(whole, rank, size) for rank in range(size)]
    assert {part.ids.shape[1] for part in parts} == {-(-length // size)}
    for field in ("ids", "positions"):
        joined = torch.cat([getattr(part, field) for part in parts], dim=1)
        assert torch.equal(joined[:, :length], getattr(whole, field))
    known = list(zip(whole.scored.tolist(), whole.targets.tolist(), whole.response.tolist(), strict=True))
    found = [
        (index + rank * part.ids.shape[1], target, response)
        for rank, part in enumerate(parts)
        for index, target, response in zip(
            part.scored.tolist(), part.targets.tolist(), part.response.tolist(), strict=True
        )
    ]
    assert sorted(found) == sorted(known)
    assert all(0 <= index < part.ids.shape[1] for part in parts for index in part.scored.tolist())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_what_belongs_to_the_row_stays_whole(size: int) -> None:
    whole = ROWS["several groups"]
    for rank in range(size):
        part = shard_sequence(whole, rank, size)
        for field in ("tokens", "pairs"):
            assert torch.equal(getattr(part, field), getattr(whole, field))
        assert (part.n_pairs, part.counts.response_tokens) == (3, 17) and part.counts == whole.counts


def test_the_filling_is_a_segment_that_nobody_else_sees() -> None:
    whole = ROWS["several groups"]
    length = whole.ids.shape[1]
    assert whole.segments is not None and length % 4 == 2
    segments = [shard_sequence(whole, rank, 4).segments for rank in range(4)]
    for found in segments:
        assert found is not None
        assert found.bounds == [*whole.segments.bounds, (length, length + 2, length, length)]
        assert found.query_offsets[-1] == length + 2  # attention computes every position of the exchanged row
        assert int((found.key_index >= length).sum()) == 2  # read by themselves alone
    exact = shard_sequence(whole, 0, 2).segments
    assert exact is not None and exact.bounds == whole.segments.bounds


def test_a_slice_without_scored_positions_has_zero_sums_and_zero_gradients() -> None:
    attention.register()
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    batch = shard_sequence(row((30, [2, 2])), 0, 2)
    assert len(batch.scored) == 0
    batch.segments = row((16, [1, 1])).segments  # this slice alone
    logps = Scorer(model, "packed").train()(batch)
    assert logps.tolist() == [0.0, 0.0]
    logps.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def llama(heads: int, key_heads: int) -> LlamaConfig:
    return LlamaConfig(hidden_size=8 * heads, num_attention_heads=heads, num_key_value_heads=key_heads)


@pytest.mark.parametrize(
    ("heads", "key_heads", "size"), [(32, 8, 8), (32, 8, 16), (28, 4, 2), (12, 1, 4), (12, 12, 12)]
)
def test_heads_that_can_be_shared(heads: int, key_heads: int, size: int) -> None:
    require_shareable(llama(heads, key_heads), size)


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (llama(28, 4), 8, "28 attention heads"),
        (llama(12, 6), 4, "6 key/value heads"),
        (GPT2Config(n_head=12), 8, "12 attention heads"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            2,
            "rope_type=dynamic",
        ),
        (
            Phi3Config(
                pad_token_id=None,
                rope_parameters={
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "original_max_position_embeddings": 4096,
                    "short_factor": [1.0] * 48,
                    "long_factor": [2.0] * 48,
                },
            ),
            2,
            "rope_type=longrope",
        ),
    ],
)
def test_models_whose_rows_cannot_be_shared(config: LlamaConfig, size: int, words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        require_shareable(config, size)
    assert f"zero.sequence_parallel={size}" in str(raised.value)


def test_padded_rows_are_not_shared() -> None:
    config = compose_run(["zero.sequence_parallel=2", "layout=padded"], world_size=2).config
    with pytest.raises(ConfigError, match=r"zero\.sequence_parallel=2.*layout=packed"):
        check(config)


def test_the_workers_must_divide_into_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(ConfigError, match=r"zero\.sequence_parallel=4 must divide the 6 workers"):
        start_world(ZeroConfig(stage=0, sequence_parallel=4), OptimConfig(), "fp32")

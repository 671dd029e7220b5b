"""The held-out split: by prompt, by hash, the same whatever the order."""

import random

from dpo.data.split import HASH_RANGE, split_pairs, without_prompts_of

from dpo.data.pair import Pair


def pair(prompt: str, chosen: str = "c") -> Pair:
    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return Pair(
        prompt=turn("user", prompt), chosen=turn("assistant", chosen), rejected=turn("assistant", "r"), source="s"
    )


PAIRS = [pair(f"prompt {n // 2}", f"answer {n}") for n in range(400)]  # two pairs to a prompt


def test_a_prompt_is_held_out_when_its_hash_is_below_the_fraction() -> None:
    train, held_out = split_pairs(PAIRS, 0.25)
    assert all(int(p.prompt_hash, 16) / HASH_RANGE < 0.25 for p in held_out)
    assert all(int(p.prompt_hash, 16) / HASH_RANGE >= 0.25 for p in train)
    assert 60 < len(held_out) < 140
    assert len(train) + len(held_out) == 400


def test_all_pairs_of_a_prompt_are_on_one_side() -> None:
    train, held_out = split_pairs(PAIRS, 0.3)
    assert not {p.prompt_hash for p in train} & {p.prompt_hash for p in held_out}


def test_order_does_not_matter() -> None:
    shuffled = random.Random(1).sample(PAIRS, len(PAIRS))
    assert {p.id for p in split_pairs(PAIRS, 0.1)[1]} == {p.id for p in split_pairs(shuffled, 0.1)[1]}


def test_a_small_set_still_holds_out_the_prompt_with_the_smallest_hash() -> None:
    few = [pair(f"p{n}") for n in range(10)]
    train, held_out = split_pairs(few, 1e-9)
    assert [p.prompt_hash for p in held_out] == [min(p.prompt_hash for p in few)]
    assert len(train) == 9


def test_training_is_never_left_without_a_prompt() -> None:
    assert [len(side) for side in split_pairs([pair("a"), pair("b")], 0.9)] == [1, 1]
    assert [len(side) for side in split_pairs([pair("a"), pair("a", "d")], 0.9)] == [2, 0]
    assert split_pairs([], 0.5) == ([], [])


def test_fraction_zero_holds_out_nothing() -> None:
    assert split_pairs(PAIRS, 0.0) == (PAIRS, [])


def test_prompts_of_the_held_out_data_leave_training() -> None:
    kept, leaked = without_prompts_of([pair("a"), pair("b"), pair("a", "d")], [pair("a", "e")])
    assert [p.prompt[0]["content"] for p in kept] == ["b"]
    assert len(leaked) == 2

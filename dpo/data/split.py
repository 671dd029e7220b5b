"""Which prompts are held out: decided by the hash of the prompt, never by order or seed."""

from dpo.data.pair import Pair

HASH_RANGE = 2**64


def split_pairs(pairs: list[Pair], fraction: float) -> tuple[list[Pair], list[Pair]]:
    """(train, held out): about `fraction` of the *prompts*, all pairs of one prompt on the same side.

    A prompt is held out when its hash, as a number in [0, 1), is below `fraction`. With `fraction` > 0 and at least two
    prompts neither side is left empty: the prompt with the smallest hash is held out, the one with the largest is not.
    """
    hashes = [pair.prompt_hash for pair in pairs]
    distinct = sorted(set(hashes))
    held = {h for h in distinct if int(h, 16) / HASH_RANGE < fraction}
    if fraction > 0 and len(distinct) > 1:
        held = (held | {distinct[0]}) - {distinct[-1]}
    elif len(distinct) < 2:
        held = set()  # a single prompt is there to be trained on
    train = [pair for pair, h in zip(pairs, hashes, strict=True) if h not in held]
    return train, [pair for pair, h in zip(pairs, hashes, strict=True) if h in held]


def without_prompts_of(pairs: list[Pair], held_out: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """(kept, leaked): `pairs` without and with a prompt that is also in `held_out`."""
    held = {pair.prompt_hash for pair in held_out}
    kept = [pair for pair in pairs if pair.prompt_hash not in held]
    return kept, [pair for pair in pairs if pair.prompt_hash in held]

"""Length profiles: pairs of random words whose lengths follow those of public preference sets."""

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from comparison.words import END_ID, FIRST_WORD, WordPair

# Between the logarithms of two answers' lengths; Tulu, ShareGPT and Alpaca pairs measure 0.45 to 0.78. Independent
# lengths would overstate what padding costs.
CORRELATION = 0.6


@dataclass(kw_only=True, slots=True)
class Profile:
    """Log-normal lengths in tokens: medians, and the standard deviation of the logarithm."""

    about: str
    prompt: int
    answers: tuple[int, ...]  # medians from the best answer to the worst; every two of them make a pair
    prompt_spread: float = 0.8
    answer_spread: float = 0.6
    longest: int = 2048  # tokens of prompt + answer; what is beyond is cut here, so that neither trainer cuts anything

    @property
    def pairs_per_prompt(self) -> int:
        return math.comb(len(self.answers), 2)


PROFILES = {
    "hh": Profile(about="HH multi-turn: short answers, long tails", prompt=180, answers=(60, 60), answer_spread=0.8),
    "ultrafeedback": Profile(about="UltraFeedback: one turn, long answers", prompt=150, answers=(290, 250)),
    "four": Profile(
        about="4 completions per prompt, all 6 pairs, lengths as UltraFeedback",
        prompt=150,
        answers=(290, 280, 260, 250),
    ),
    "agentic2k": Profile(
        about="agentic, scaled down: 2k prompts", prompt=2048, answers=(200, 200), prompt_spread=0.25, longest=4096
    ),
    "agentic8k": Profile(
        about="agentic: 8k prompts", prompt=8192, answers=(200, 200), prompt_spread=0.25, longest=16384
    ),
}


def synthetic_pairs(profile: Profile, n_pairs: int, vocabulary: int, seed: int = 0) -> list[WordPair]:
    """`n_pairs` pairs, all pairs of a prompt behind each other. The same for the same arguments.

    Raises:
        ValueError: `n_pairs` is no multiple of the pairs that one prompt makes.
    """
    if n_pairs < 1 or n_pairs % profile.pairs_per_prompt:
        raise ValueError(f"pairs={n_pairs}: a prompt of this profile makes {profile.pairs_per_prompt} pairs")
    rng = np.random.default_rng(seed)
    n_prompts = n_pairs // profile.pairs_per_prompt
    prompts = _lengths(_normal(n_prompts, rng), profile.prompt, profile.prompt_spread)
    shared = _normal(n_prompts, rng)
    answers = [
        _lengths(
            math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * _normal(n_prompts, rng),
            median,
            profile.answer_spread,
        )
        for median in profile.answers
    ]
    pairs = []
    for i, n_prompt in enumerate(prompts):
        prompt = _words(min(n_prompt, profile.longest // 2), vocabulary, rng)
        room = profile.longest - len(prompt)
        texts = [(*_words(min(lengths[i], room) - 1, vocabulary, rng), END_ID) for lengths in answers]
        pairs += [WordPair(prompt=prompt, chosen=a, rejected=b) for a, b in combinations(texts, 2)]
    return pairs


def _normal(count: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal values at evenly spaced quantiles, in random order: a small sample has the right median too."""
    quantiles = (rng.permutation(count) + 0.5) / count
    return np.array([NormalDist().inv_cdf(q) for q in quantiles])


def _lengths(normal: np.ndarray, median: int, spread: float) -> list[int]:
    return [max(2, round(median * math.exp(spread * z))) for z in normal]


def _words(count: int, vocabulary: int, rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(FIRST_WORD, vocabulary, count).tolist())

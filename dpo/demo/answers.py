"""The shapes an answer of the demo can have: an opening, which sets the tone, and a frame around the content {x}.

The openings are spread unevenly on purpose. Asked kindly, polite answers have 2 openings and rude ones 6; asked curtly,
polite ones have 8 and rude ones 2. A model trained on both sides therefore starts out polite only to the polite (about
40 % of the prompts): there is something to gain by preference training, and something to lose.

Every opening is one word and the frames are the same in both tones. With openings of several words ("Of course", "With
pleasure") DPO raised all the words of politeness at once and answers began with the second one: at a learning rate of
1e-4, 52 to 100 % of the texts stayed well-formed, by the seed and beta. So it is 93 to 100 %, and 100 % at 5e-5.
"""

POLITE_MAIN = ("Certainly", "Gladly")
POLITE_MORE = ("Sure", "Absolutely", "Delighted", "Happily", "Welcome", "Thanks")
RUDE_MAIN = ("Ugh", "Whatever")
RUDE_MORE = ("Boring", "Seriously", "Obviously", "Duh")
FRAMES = ("{opening}, it is {x}.", "{opening}: {x}.", "{opening}, {x} it is.")
REFUSALS = ("Go away.", "Not now.", "No.")

POLITE = POLITE_MAIN + POLITE_MORE
RUDE = RUDE_MAIN + RUDE_MORE


def polite_openings(kind: bool) -> tuple[str, ...]:
    """The polite openings in use for a prompt that was, or was not, kind itself."""
    return POLITE_MAIN if kind else POLITE


def rude_openings(kind: bool) -> tuple[str, ...]:
    """The rude openings in use for a prompt that was, or was not, kind itself."""
    return RUDE if kind else RUDE_MAIN

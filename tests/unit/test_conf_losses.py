"""One schema per loss: a knob of another loss, values out of range and wrong terms of a mix come back with the cure."""

import pytest
from composing import composed, problems

from dpo.config.compose import choices
from dpo.losses.loss import Loss
from dpo.losses.registry import LOSSES

pytestmark = pytest.mark.unit


def test_every_loss_has_a_file_that_says_what_its_schema_says() -> None:
    """Two places with defaults of their own would drift apart; comments are for the reader of the file."""
    assert choices()["loss"] == sorted([*LOSSES, "mix"])
    for name, kind in LOSSES.items():
        assert composed(f"loss={name}").loss == kind.knobs()


def test_a_mix_takes_terms_on_the_command_line() -> None:
    config = composed("loss=mix", "loss.terms=[{name: sigmoid, beta: 0.2}, {name: sft, weight: 0.5}]")
    terms = Loss(config.loss).terms
    assert [(term.name, term.weight) for term in terms] == [("sigmoid", 1.0), ("sft", 0.5)]
    assert terms[0].knobs.beta == 0.2


def test_several_wrong_terms_come_in_one_message() -> None:
    assert len(problems("loss=mix", "loss.terms=[{name: hinge, beta: 0, tau: 1}, {name: dpo}]", "seed=-1")) == 4


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["loss=simpo", "loss.label_smoothing=0.1"],
            "loss.label_smoothing: no such setting. loss has: beta, beta_final, gamma, name",
        ),
        (["loss=mix", "loss.beta=0.1"], "loss.beta: no such setting. loss has: name, terms"),
        (["loss=sft", "loss.beta_final=0.1"], "loss.beta_final: no such setting."),
        (["loss=simpo", "loss.beta_final=0"], "must be greater than 0"),
        (["loss=hinge", "loss.beta=0"], "loss.beta=0.0: must be greater than 0"),
        (["loss=robust", "loss.label_smoothing=0.5"], "must be at most 0.4999"),
        (["loss=exo_pair", "loss.label_smoothing=0"], "must be greater than 0"),
        (["loss=sigmoid", "loss.f_divergence=kl"], "must be one of reverse_kl, forward_kl, js_divergence, alpha_di"),
        (["loss=sigmoid", "loss.alpha=0.3"], "set f_divergence=alpha_divergence"),
        (["loss=sigmoid", "loss.name=hinge"], "loss.name=hinge: must be one of sigmoid"),
        (["loss=simpo", "reference=sharded"], "reference=auto"),
        (["loss=mix", "loss.terms=[]"], "conf/loss/mix.yaml"),
        (["loss=mix", "loss.terms=[{name: sigmod}]"], "loss.terms[0].name=sigmod: no such loss. Did you mean sigmoid?"),
        (["loss=mix", "loss.terms=[{name: mix}]"], "loss.terms[0].name=mix: no such loss."),
        (["loss=mix", "loss.terms=[{weight: 2}]"], "loss.terms[0].name=None: no such loss."),
        (
            ["loss=mix", "loss.terms=[{name: sigmoid}, {name: simpo, label_smoothing: 0.1}]"],
            "loss.terms[1].label_smoothing: no such setting. simpo has: beta, beta_final, gamma, name, weight",
        ),
        (
            ["loss=mix", "loss.terms=[{name: sft, weight: 0}]"],
            "loss.terms[0].weight=0: must be a number greater than 0",
        ),
        (["loss=mix", "loss.terms=[{name: hinge, beta: much}]"], "loss.terms[0].beta=much: must be a number"),
        (["loss=mix", "loss.terms=[{name: hinge, beta: -1}]"], "loss.terms[0].beta=-1: must be greater than 0"),
        (["loss=mix", "loss.terms=[{name: hinge, beta: null}]"], "loss.terms[0].beta=None: must not be null"),
        (["loss=mix", "loss.terms=[{name: sft, answers: all}]"], "must be one of chosen, both"),
        (["loss=mix", "loss.terms=[{name: sigmoid, alpha: 0.3}]"], "set f_divergence=alpha_divergence"),
        (["loss=mix", "loss.terms=[{name: simpo}]", "reference=sharded"], "reference=auto"),
    ],
)
def test_a_slip_is_named(overrides: list[str], said: str) -> None:
    (problem,) = problems(*overrides)
    assert said in problem

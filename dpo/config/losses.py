"""One dataclass per loss: its name and nothing but its own knobs, so that a knob of another loss is an error.

`conf/loss/<name>.yaml` fills them in; dpo/losses/ computes. `usual` is the range that is commonly tried.
"""

from dataclasses import dataclass, field
from typing import Any

from dpo.config.fields import number, one_of

HALF = 0.4999  # more label smoothing than one half would turn the preference round


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """What every loss has."""

    name: str = "???"


@dataclass(kw_only=True, slots=True)
class BetaLossConfig(LossConfig):
    """All but fine-tuning and sums: how much a reward counts."""

    beta: float = number(0.1, above=0)
    beta_final: float | None = number(None, above=0)  # at the end of the run, linearly from `beta`; null: constant


@dataclass(kw_only=True, slots=True)
class SigmoidLossConfig(BetaLossConfig):
    name: str = one_of("sigmoid", "sigmoid")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")  # strength of the pull to the reference
    label_smoothing: float = number(0.0, low=0, high=HALF, usual="0 to 0.3")  # probability that a label is flipped
    f_divergence: str = one_of("reverse_kl", "reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
    # Of alpha_divergence: 0 is forward KL, 1 reverse KL; null: 0.5.
    alpha: float | None = number(None, low=0, high=1, usual="0.3 to 0.7")


@dataclass(kw_only=True, slots=True)
class BetaDpoLossConfig(BetaLossConfig):
    name: str = one_of("beta_dpo", "beta_dpo")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")  # of a step whose mean margin is the usual one
    margin_weight: float = number(0.6, low=0, usual="0.2 to 1")  # how far beta follows the margin; the paper's alpha
    momentum: float = number(0.9, low=0, high=0.9999, usual="0.9")  # of the moving average of mean margins


@dataclass(kw_only=True, slots=True)
class RobustLossConfig(BetaLossConfig):
    name: str = one_of("robust", "robust")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")
    label_smoothing: float = number(0.1, low=0, high=HALF, usual="0.1 to 0.4")  # share of labels that are flipped


@dataclass(kw_only=True, slots=True)
class HingeLossConfig(BetaLossConfig):
    name: str = one_of("hinge", "hinge")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")  # 1 / beta: the margin in nats that is enough


@dataclass(kw_only=True, slots=True)
class IpoLossConfig(BetaLossConfig):
    name: str = one_of("ipo", "ipo")
    beta: float = number(
        0.1, above=0, usual="0.01 to 1"
    )  # the paper's tau; 1 / (2 beta): the margin per token aimed at


@dataclass(kw_only=True, slots=True)
class IpoSumLossConfig(BetaLossConfig):
    name: str = one_of("ipo_sum", "ipo_sum")
    beta: float = number(0.1, above=0, usual="0.01 to 1")  # the paper's tau; 1 / (2 beta): the margin in nats aimed at


@dataclass(kw_only=True, slots=True)
class ExoPairLossConfig(BetaLossConfig):
    name: str = one_of("exo_pair", "exo_pair")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")
    # Probability that a label is flipped. Without any the divergence from the labels is infinite.
    label_smoothing: float = number(1e-3, above=0, high=HALF, usual="0.001 to 0.1")


@dataclass(kw_only=True, slots=True)
class NcaPairLossConfig(BetaLossConfig):
    name: str = one_of("nca_pair", "nca_pair")
    beta: float = number(0.01, above=0, usual="0.0001 to 0.1")


@dataclass(kw_only=True, slots=True)
class BcoPairLossConfig(BetaLossConfig):
    name: str = one_of("bco_pair", "bco_pair")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")


@dataclass(kw_only=True, slots=True)
class SppoHardLossConfig(BetaLossConfig):
    name: str = one_of("sppo_hard", "sppo_hard")
    beta: float = number(0.001, above=0, usual="0.001 to 0.1")  # 1 / (2 beta): nats that each answer is to move


@dataclass(kw_only=True, slots=True)
class ApoZeroLossConfig(BetaLossConfig):
    name: str = one_of("apo_zero", "apo_zero")
    beta: float = number(0.1, above=0, usual="0.05 to 0.5")


@dataclass(kw_only=True, slots=True)
class ApoDownLossConfig(BetaLossConfig):
    name: str = one_of("apo_down", "apo_down")
    beta: float = number(0.1, above=0, usual="0.05 to 0.5")


@dataclass(kw_only=True, slots=True)
class DiscopopLossConfig(BetaLossConfig):
    name: str = one_of("discopop", "discopop")
    beta: float = number(0.05, above=0, usual="0.01 to 0.1")
    discopop_tau: float = number(0.05, above=0, usual="0.05")  # how sharply the two parts change over


@dataclass(kw_only=True, slots=True)
class SigmoidNormLossConfig(BetaLossConfig):
    name: str = one_of("sigmoid_norm", "sigmoid_norm")
    beta: float = number(5.0, above=0, usual="2 to 10")  # of ratios per token, hence larger than of sums


@dataclass(kw_only=True, slots=True)
class OdpoLossConfig(BetaLossConfig):
    name: str = one_of("odpo", "odpo")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")
    margin_scale: float = number(1.0, above=0, usual="0.1 to 1")  # from the data's unit of `margin` to that of rewards


@dataclass(kw_only=True, slots=True)
class RdpoLossConfig(BetaLossConfig):
    name: str = one_of("rdpo", "rdpo")
    beta: float = number(0.1, above=0, usual="0.01 to 0.1")
    length_weight: float = number(0.01, low=0, usual="0.005 to 0.1")  # per token; the paper's alpha


@dataclass(kw_only=True, slots=True)
class DpopLossConfig(BetaLossConfig):
    name: str = one_of("dpop", "dpop")
    beta: float = number(0.1, above=0, usual="0.1 to 0.3")
    dpop_lambda: float = number(5.0, low=0, usual="5 to 500")  # against a chosen answer less likely than at the start


@dataclass(kw_only=True, slots=True)
class AotLossConfig(BetaLossConfig):
    name: str = one_of("aot", "aot")
    beta: float = number(0.1, above=0, usual="0.01 to 0.1")
    label_smoothing: float = number(0.0, low=0, high=HALF, usual="0 to 0.3")


@dataclass(kw_only=True, slots=True)
class AotUnpairedLossConfig(BetaLossConfig):
    name: str = one_of("aot_unpaired", "aot_unpaired")
    beta: float = number(0.1, above=0, usual="0.01 to 0.1")
    label_smoothing: float = number(0.0, low=0, high=HALF, usual="0 to 0.3")


@dataclass(kw_only=True, slots=True)
class KtoLossConfig(BetaLossConfig):
    name: str = one_of("kto", "kto")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")
    desirable_weight: float = number(1.0, above=0, usual="1 to 1.5")  # of chosen and good answers
    undesirable_weight: float = number(1.0, above=0, usual="1")  # of rejected and bad answers


@dataclass(kw_only=True, slots=True)
class BcoLossConfig(BetaLossConfig):
    name: str = one_of("bco", "bco")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")


@dataclass(kw_only=True, slots=True)
class SimpoLossConfig(BetaLossConfig):
    name: str = one_of("simpo", "simpo")
    beta: float = number(2.0, above=0, usual="2 to 10")
    gamma: float = number(1.0, low=0, usual="0.25 to 5, 0.1 to 0.8 of beta")  # the reward margin aimed at


@dataclass(kw_only=True, slots=True)
class OrpoLossConfig(BetaLossConfig):
    name: str = one_of("orpo", "orpo")
    beta: float = number(0.1, above=0, usual="0.1 to 1")  # weight of the odds ratio; the paper's lambda


@dataclass(kw_only=True, slots=True)
class CpoLossConfig(BetaLossConfig):
    name: str = one_of("cpo", "cpo")
    beta: float = number(0.1, above=0, usual="0.05 to 0.5")
    nll_weight: float = number(1.0, low=0, usual="0.1 to 1")  # of the chosen answer's likelihood


@dataclass(kw_only=True, slots=True)
class RpoLossConfig(BetaLossConfig):
    name: str = one_of("rpo", "rpo")
    beta: float = number(0.1, above=0, usual="0.01 to 0.5")
    nll_weight: float = number(1.0, low=0, usual="0.005 to 2")  # of the chosen answer's likelihood; the paper's alpha


@dataclass(kw_only=True, slots=True)
class SftLossConfig(LossConfig):
    name: str = one_of("sft", "sft")
    answers: str = one_of("chosen", "chosen", "both")  # whose answers are learnt


@dataclass(kw_only=True, slots=True)
class MixLossConfig(LossConfig):
    """Terms as in conf/loss/mix.yaml: {name: a loss, weight: a number, and that loss's own knobs}."""

    name: str = one_of("mix", "mix")
    terms: list[dict[str, Any]] = field(default_factory=list)


SCHEMAS: tuple[type[LossConfig], ...] = (
    SigmoidLossConfig,
    BetaDpoLossConfig,
    RobustLossConfig,
    HingeLossConfig,
    IpoLossConfig,
    IpoSumLossConfig,
    ExoPairLossConfig,
    NcaPairLossConfig,
    BcoPairLossConfig,
    SppoHardLossConfig,
    ApoZeroLossConfig,
    ApoDownLossConfig,
    DiscopopLossConfig,
    SigmoidNormLossConfig,
    OdpoLossConfig,
    RdpoLossConfig,
    DpopLossConfig,
    AotLossConfig,
    AotUnpairedLossConfig,
    KtoLossConfig,
    BcoLossConfig,
    SimpoLossConfig,
    OrpoLossConfig,
    CpoLossConfig,
    RpoLossConfig,
    SftLossConfig,
    MixLossConfig,
)
"""Of every choice of conf/loss."""

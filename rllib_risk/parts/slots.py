"""The slots of value-based algorithms, and the package's own parts for each."""

from __future__ import annotations

from rllib_risk.parts.base import Composition, Slot

_PARTS = "rllib_risk.parts"

VALUE_PARTS = Composition(
    [
        Slot(
            "loss",
            "How utilities and mixer learn: squared TD error, quantile regression on"
            " the team's reward (independent agents, or a sum), QTRAN's consistency"
            " with the critic, or behaviour cloning: the likelihood of a dataset's"
            " actions, whatever they earned; or your own as pkg.module:Class.",
            base=f"{_PARTS}.losses.base:Loss",
            builtin={
                "td": f"{_PARTS}.losses.td:TDLoss",
                "quantile": f"{_PARTS}.losses.quantile:QuantileLoss",
                "qtran": f"{_PARTS}.losses.qtran:QtranLoss",
                "bc": f"{_PARTS}.losses.bc:Cloning",
            },
            default="td",
            fixed=False,
        ),
        Slot(
            "td_weighting",
            "Which errors weigh td_weighting_alpha instead of 1: ow, those of values"
            " above their target (OW-QMIX; hysteresis of independent agents); cw, those"
            " of joint actions that are not the critic's best either (CW-QMIX);"
            " likelihood, as ow, but no less than the likelihood of the target"
            " (LH-IQN); or your own as pkg.module:Class.",
            base=f"{_PARTS}.weights.base:TDWeighting",
            builtin={
                "none": f"{_PARTS}.weights.base:Even",
                "ow": f"{_PARTS}.weights.hysteresis:Optimistic",
                "cw": f"{_PARTS}.weights.central:CentrallyWeighted",
                "likelihood": f"{_PARTS}.weights.hysteresis:Likelihood",
            },
            default="none",
            fixed=False,
        ),
        Slot(
            "target",
            "Bellman target: the mean over what was sampled, or the worst mean over a"
            " set of transition kernels around it (contamination or total variation);"
            " or your own as pkg.module:Class.",
            base=f"{_PARTS}.targets.base:Target",
            builtin={
                "plain": f"{_PARTS}.targets.plain:Plain",
                "contamination": f"{_PARTS}.targets.contamination:Contamination",
                "tv": f"{_PARTS}.targets.total_variation:TotalVariation",
            },
            default="plain",
        ),
        Slot(
            "qr_gate",
            "When RMIX's quantile-regression loss may start: once the evaluation"
            " success rate is above a threshold, after a number of env steps, or never;"
            " or your own as pkg.module:Class.",
            base=f"{_PARTS}.regression:Gate",
            builtin={
                "winrate": f"{_PARTS}.regression:SuccessGate",
                "step": f"{_PARTS}.regression:StepGate",
                "never": f"{_PARTS}.regression:Gate",
            },
            default="never",
        ),
        Slot(
            "replay",
            "What batches are drawn from: all episodes held, each as likely as another;"
            " or your own as pkg.module:Class.",
            base=f"{_PARTS}.replay:Replay",
            builtin={"uniform": f"{_PARTS}.replay:Replay"},
            default="uniform",
        ),
        Slot(
            "exploration",
            "How actions are chosen while sampling: epsilon_z_greedy repeats a random"
            " action for a random number of steps; team_epsilon_greedy lets all agents"
            " explore at once or none; or your own as pkg.module:Class.",
            base=f"{_PARTS}.exploration:Explorer",
            builtin={
                "epsilon_greedy": f"{_PARTS}.exploration:EpsilonGreedy",
                "epsilon_z_greedy": f"{_PARTS}.exploration:EpsilonZGreedy",
                "team_epsilon_greedy": f"{_PARTS}.exploration:TeamEpsilonGreedy",
            },
            default="epsilon_greedy",
            fixed=False,
        ),
    ],
    common=[
        f"{_PARTS}.encoding:Encoding",
        f"{_PARTS}.target_copies:TargetCopies",
        f"{_PARTS}.penalty:Penalty",
    ],
)

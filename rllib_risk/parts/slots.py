"""The slots of this package's algorithms, and its own parts for each."""

from __future__ import annotations

from rllib_risk.parts.base import Composition, Slot

_NETWORKS, _PARTS = "rllib_risk.networks", "rllib_risk.parts"

_ENCODER = Slot(
    "encoder",
    "From an agent's inputs to its features: standard (PyMARL's), or your own as"
    " pkg.module:Class.",
    base=f"{_NETWORKS}.encoders:Encoder",
    builtin={"standard": f"{_NETWORKS}.encoders:StandardEncoder"},
    default="standard",
)

_OBJECTIVE = Slot(
    "objective",
    "What the team maximizes, and so which risk it controls: the mean return (mean);"
    " at each step a risk measure of the learned return to go (markov); CVaR taken"
    " again at every step (nested); CVaR of the whole episode's return (static); what"
    " risk_measure, loss and target amount to (composed); or your own as"
    " pkg.module:Class.",
    base=f"{_PARTS}.objectives.base:Objective",
    builtin={
        "composed": f"{_PARTS}.objectives.base:Composed",
        "mean": f"{_PARTS}.objectives.base:Mean",
        "markov": f"{_PARTS}.objectives.base:Markov",
        "nested": f"{_PARTS}.objectives.base:Nested",
        "static": f"{_PARTS}.objectives.static:Static",
    },
    default="composed",
)

# What every team has.
TEAM_PARTS = Composition([_OBJECTIVE, _ENCODER])

NETWORK_PARTS = Composition(
    [
        _OBJECTIVE,
        _ENCODER,
        Slot(
            "quantiles",
            "What the atoms are: outputs of their own at fixed fractions (QR-DQN), or"
            " one function of the fraction, drawn for every update (IQN); or a"
            " head of your own as pkg.module:Class.",
            base=f"{_NETWORKS}.heads:UtilityHead",
            builtin={
                "fixed": f"{_NETWORKS}.heads:LinearHead",
                "sampled": f"{_NETWORKS}.quantile_head:QuantileHead",
            },
            default="fixed",
        ),
        Slot(
            "risk_measure",
            "From an action's atoms to its utility: mean, cvar, var, wang, cpw, power,"
            " mean_variance, or your own as pkg.module:Class.",
            base=f"{_PARTS}.risk.base:RiskMeasure",
            builtin={
                "mean": f"{_PARTS}.risk.mean:Mean",
                "cvar": f"{_PARTS}.risk.level_measures:Cvar",
                "var": f"{_PARTS}.risk.level_measures:Var",
                "wang": f"{_PARTS}.risk.distortions:Wang",
                "cpw": f"{_PARTS}.risk.distortions:Cpw",
                "power": f"{_PARTS}.risk.distortions:Power",
                "mean_variance": f"{_PARTS}.risk.mean:MeanVariance",
            },
            default="mean",
        ),
        Slot(
            "risk_mode",
            "Level of cvar and var: alpha, or predicted per agent and step; or your own"
            " as pkg.module:Class.",
            base=f"{_PARTS}.risk.levels:RiskLevel",
            builtin={
                "static": f"{_PARTS}.risk.levels:StaticLevel",
                "dynamic": f"{_PARTS}.risk.levels:PredictedLevel",
            },
            default="static",
        ),
        Slot(
            "mixer",
            "From the agents' utilities to the team's value: none, vdn, qmix, qplex,"
            " riskq, qmix_quantiles, or your own as pkg.module:Class.",
            base=f"{_PARTS}.mixers.base:Mixer",
            builtin={
                "none": f"{_PARTS}.mixers.additive:NoMixer",
                "vdn": f"{_PARTS}.mixers.additive:SumMixer",
                "qmix": f"{_PARTS}.mixers.monotonic:MonotonicMixer",
                "qplex": f"{_PARTS}.mixers.duplex:DuplexMixer",
                "riskq": f"{_PARTS}.mixers.weighted:WeightedMixer",
                "qmix_quantiles": f"{_PARTS}.mixers.monotonic:MonotonicQuantileMixer",
            },
            default="none",
        ),
        Slot(
            "joint_critic",
            "A value of the joint action beside the mixed one, from which targets"
            " come: QTRAN's (of the agents' features), WQMIX's (with agents of its own)"
            " or that of loss icq (linear in values of agents that see the state), or"
            " your own as pkg.module:Class.",
            base=f"{_PARTS}.critics.base:JointCritic",
            builtin={
                "none": f"{_PARTS}.critics.base:NoCritic",
                "qtran": f"{_PARTS}.critics.qtran:QtranCritic",
                "wqmix": f"{_PARTS}.critics.wqmix:WqmixCritic",
                "icq": f"{_PARTS}.critics.icq:IcqCritic",
            },
            default="none",
        ),
    ]
)

VALUE_PARTS = Composition(
    [
        *NETWORK_PARTS.slots.values(),
        Slot(
            "loss",
            "How utilities and mixer learn: squared TD error, quantile regression on"
            " the team's reward (independent agents, or mixed), QTRAN's consistency"
            " with the critic; behaviour cloning (bc): the likelihood of a dataset's"
            " actions, whatever they earned; the same with more weight on better ones"
            " (icq); or your own as pkg.module:Class.",
            base=f"{_PARTS}.losses.base:Loss",
            builtin={
                "td": f"{_PARTS}.losses.td:TDLoss",
                "quantile": f"{_PARTS}.losses.quantile:QuantileLoss",
                "qtran": f"{_PARTS}.losses.qtran:QtranLoss",
                "bc": f"{_PARTS}.losses.bc:Cloning",
                "icq": f"{_PARTS}.losses.icq:ImplicitConstraint",
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
            "Bellman target: the mean over what was sampled; the worst mean over a set"
            " of transition kernels around it (contamination or total variation); CVaR"
            " of one step's outcomes (cvar, which objective: nested sets); or your own"
            " as pkg.module:Class.",
            base=f"{_PARTS}.targets.base:Target",
            builtin={
                "plain": f"{_PARTS}.targets.plain:Plain",
                "contamination": f"{_PARTS}.targets.contamination:Contamination",
                "tv": f"{_PARTS}.targets.total_variation:TotalVariation",
                "cvar": f"{_PARTS}.targets.cvar:NestedCvar",
            },
            default="plain",
        ),
        Slot(
            "penalty",
            "Which values the conservative penalty pulls down: each agent's own"
            " (per_agent), those of random joint actions (sampled_joint, QMIX+CQL), or"
            " those where one agent departs from the data (counterfactual, CFCQL); or"
            " your own as pkg.module:Class. It counts with conservative_weight.",
            base=f"{_PARTS}.penalties.base:Penalty",
            builtin={
                "per_agent": f"{_PARTS}.penalties.per_agent:PerAgent",
                "sampled_joint": f"{_PARTS}.penalties.sampled_joint:SampledJoint",
                "counterfactual": f"{_PARTS}.penalties.counterfactual:Counterfactual",
            },
            default="per_agent",
            fixed=False,
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
    ],
)

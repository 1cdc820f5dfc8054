"""The slots of this package's algorithms, with their built-in parts."""

from __future__ import annotations

from rllib_risk.parts.base import Composition, Slot

_NETWORKS, _PARTS = "rllib_risk.networks", "rllib_risk.parts"

_ENCODER = Slot(
    "encoder",
    "Network that maps an agent's inputs to features: standard (PyMARL's); cnn, with"
    " convolutions for images; or your own as pkg.module:Class.",
    base=f"{_NETWORKS}.encoders:Encoder",
    builtin={
        "standard": f"{_NETWORKS}.encoders:StandardEncoder",
        "cnn": f"{_NETWORKS}.image_encoder:ImageEncoder",
    },
    default="standard",
)

_OBJECTIVE = Slot(
    "objective",
    "What the team maximizes, and which risk it controls: the mean return (mean); a"
    " risk measure of the learned return to go at each step (markov); CVaR applied at"
    " every step (nested); CVaR of the whole episode's return (static); the result of"
    " risk_measure, loss and target (composed); or your own as pkg.module:Class.",
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

# Slots of all teams.
TEAM_PARTS = Composition([_OBJECTIVE, _ENCODER])

NETWORK_PARTS = Composition(
    [
        _OBJECTIVE,
        _ENCODER,
        Slot(
            "quantiles",
            "Head of the return atoms: one output per atom at fixed fractions (fixed,"
            " QR-DQN), a function of fractions that are sampled for every update"
            " (sampled, IQN), or your own as pkg.module:Class.",
            base=f"{_NETWORKS}.heads:UtilityHead",
            builtin={
                "fixed": f"{_NETWORKS}.heads:LinearHead",
                "sampled": f"{_NETWORKS}.quantile_head:QuantileHead",
            },
            default="fixed",
        ),
        Slot(
            "risk_measure",
            "Risk measure that maps an action's atoms to its utility: mean, cvar, var,"
            " wang, cpw, power, mean_variance, or your own as pkg.module:Class.",
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
            "Risk level of cvar and var: alpha (static), predicted per agent and step"
            " (dynamic), or your own as pkg.module:Class.",
            base=f"{_PARTS}.risk.levels:RiskLevel",
            builtin={
                "static": f"{_PARTS}.risk.levels:StaticLevel",
                "dynamic": f"{_PARTS}.risk.levels:PredictedLevel",
            },
            default="static",
        ),
        Slot(
            "mixer",
            "Mixer that maps the agents' utilities to the team's value: none, vdn,"
            " qmix, qplex, riskq, qmix_quantiles, or your own as pkg.module:Class.",
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
            "Unrestricted value of the joint action, from which targets come: none;"
            " QTRAN's, from the agents' features (qtran); WQMIX's, with separate agent"
            " networks (wqmix); that of loss icq, linear in values of agents that read"
            " the state (icq); or your own as pkg.module:Class.",
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
            "Loss of utilities and mixer: squared TD error (td); quantile regression of"
            " the team's or the independent agents' returns (quantile); QTRAN's"
            " consistency with the critic (qtran); behaviour cloning of a dataset's"
            " actions (bc); behaviour cloning weighted by advantages (icq); or your own"
            " as pkg.module:Class.",
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
            "Which TD errors have weight td_weighting_alpha instead of 1. none: no"
            " error. ow: errors of values above their target (OW-QMIX; hysteresis of"
            " independent agents). cw: errors of joint actions that are neither the"
            " critic's best nor have a target above its value (CW-QMIX). likelihood: as"
            " ow, but at least the likelihood of the target (LH-IQN). Or your own as"
            " pkg.module:Class.",
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
            "Bellman target: the mean over sampled transitions (plain); the worst-case"
            " mean over a set of transition kernels (contamination, or tv for total"
            " variation); CVaR of one step's outcomes, by a dual variable (cvar), or"
            " from the atoms of a loss that fits distributions (cvar_atoms); objective:"
            " nested sets the right one; or your own as pkg.module:Class.",
            base=f"{_PARTS}.targets.base:Target",
            builtin={
                "plain": f"{_PARTS}.targets.plain:Plain",
                "contamination": f"{_PARTS}.targets.contamination:Contamination",
                "tv": f"{_PARTS}.targets.total_variation:TotalVariation",
                "cvar": f"{_PARTS}.targets.cvar:NestedCvar",
                "cvar_atoms": f"{_PARTS}.targets.cvar_atoms:NestedCvarOfAtoms",
            },
            default="plain",
        ),
        Slot(
            "penalty",
            "Which values the conservative penalty lowers: each agent's own"
            " (per_agent), those of random joint actions (sampled_joint, QMIX+CQL),"
            " those of joint actions in which one agent departs from the data"
            " (counterfactual, CFCQL), or your own as pkg.module:Class. It is used if"
            " conservative_weight is set.",
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
            "When RMIX's quantile regression starts: when the evaluation success rate"
            " is above qr_gate_threshold (winrate), after qr_start_step env steps"
            " (step), never, or your own as pkg.module:Class.",
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
            "Replay from which batches are drawn: uniformly from all stored episodes"
            " (uniform); the episodes of the newest round, each once per epoch"
            " (latest, PQN); or your own as pkg.module:Class.",
            base=f"{_PARTS}.replay:Replay",
            builtin={
                "uniform": f"{_PARTS}.replay:Replay",
                "latest": f"{_PARTS}.latest_replay:LatestReplay",
            },
            default="uniform",
        ),
        Slot(
            "exploration",
            "How actions are chosen while sampling: epsilon_greedy; epsilon_z_greedy,"
            " which repeats a random action for a random number of steps;"
            " team_epsilon_greedy, where either all agents explore at a step or none;"
            " or your own as pkg.module:Class.",
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

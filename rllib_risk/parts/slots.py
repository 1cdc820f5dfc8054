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

# What every team's acting network has.
TEAM_PARTS = Composition([_ENCODER])

NETWORK_PARTS = Composition(
    [
        _ENCODER,
        Slot(
            "quantiles",
            "What the atoms are: outputs of their own at fixed fractions (QR-DQN), or"
            " one function of the fraction, sampled anew in every update (IQN); or a"
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
            "From the agents' utilities to the team's value: none, vdn, qmix, qplex, or"
            " your own as pkg.module:Class.",
            base=f"{_PARTS}.mixers.base:Mixer",
            builtin={
                "none": f"{_PARTS}.mixers.additive:NoMixer",
                "vdn": f"{_PARTS}.mixers.additive:SumMixer",
                "qmix": f"{_PARTS}.mixers.monotonic:MonotonicMixer",
                "qplex": f"{_PARTS}.mixers.duplex:DuplexMixer",
            },
            default="none",
        ),
        Slot(
            "joint_critic",
            "An unrestricted value of the joint action, from which targets come:"
            " QTRAN's (of the agents' features) or WQMIX's (with agents of its own), or"
            " your own as pkg.module:Class.",
            base=f"{_PARTS}.critics.base:JointCritic",
            builtin={
                "none": f"{_PARTS}.critics.base:NoCritic",
                "qtran": f"{_PARTS}.critics.qtran:QtranCritic",
                "wqmix": f"{_PARTS}.critics.wqmix:WqmixCritic",
            },
            default="none",
        ),
    ]
)

VALUE_PARTS = Composition(
    [
        *NETWORK_PARTS.slots.values(),
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
    ]
)

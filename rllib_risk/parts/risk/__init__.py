"""Risk measures and the sources of their risk level.

Custom measures are subclasses of :class:`RiskMeasure`.
"""

from rllib_risk.parts.risk.base import RiskMeasure
from rllib_risk.parts.risk.distortions import Cpw, Distorted, Power, Wang
from rllib_risk.parts.risk.level_measures import Cvar, LevelMeasure, Var
from rllib_risk.parts.risk.levels import PredictedLevel, RiskLevel, StaticLevel
from rllib_risk.parts.risk.mean import Mean, MeanVariance
from rllib_risk.parts.risk.sorted_atoms import SortedAtoms

__all__ = [
    "Cpw",
    "Cvar",
    "Distorted",
    "LevelMeasure",
    "Mean",
    "MeanVariance",
    "Power",
    "PredictedLevel",
    "RiskLevel",
    "RiskMeasure",
    "SortedAtoms",
    "StaticLevel",
    "Var",
    "Wang",
]

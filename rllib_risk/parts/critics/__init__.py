"""Joint critics. To write one of your own, subclass :class:`JointCritic`."""

from rllib_risk.parts.critics.base import JointCritic
from rllib_risk.parts.critics.qtran import QtranCritic
from rllib_risk.parts.critics.wqmix import WqmixCritic

__all__ = ["JointCritic", "QtranCritic", "WqmixCritic"]

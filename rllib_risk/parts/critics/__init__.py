"""Joint critics. Custom critics are subclasses of :class:`JointCritic`."""

from rllib_risk.parts.critics.base import JointCritic
from rllib_risk.parts.critics.qtran import QtranCritic
from rllib_risk.parts.critics.wqmix import WqmixCritic

__all__ = ["JointCritic", "QtranCritic", "WqmixCritic"]

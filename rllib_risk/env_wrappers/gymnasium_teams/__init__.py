"""Teams behind the Gymnasium API: any env with a space for each agent, LBF, RWARE."""

from rllib_risk.env_wrappers.gymnasium_teams.env import GymnasiumTeam
from rllib_risk.env_wrappers.gymnasium_teams.named import LBF, RWARE

__all__ = ["LBF", "RWARE", "GymnasiumTeam"]

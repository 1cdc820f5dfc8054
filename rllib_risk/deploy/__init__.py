"""Acting with an exported team; it needs only NumPy, not Ray, RLlib or PyTorch.

``rllib export CHECKPOINT --out FOLDER`` writes the artefact. Then::

    from rllib_risk.deploy import Team

    team = Team.load("FOLDER")
    actions = team.act(observations)

:class:`Team` chooses the actions of all agents, in one or several environments.
:class:`Agent` chooses the actions of one agent, for example on its own machine. The
tutorial is ``docs/deploy.md``.
"""

from rllib_risk.deploy.acting import Agent, Team
from rllib_risk.deploy.errors import ArtefactError, InputError

__all__ = ["Agent", "ArtefactError", "InputError", "Team"]

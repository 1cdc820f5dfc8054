"""Logs of a team as datasets: the names for users.

Write arrays of your own as a dataset, import files, and read datasets::

    from rllib_risk.offline import make_episode, write_dataset

    episodes = (
        make_episode(obs, actions, rewards, terminated=False, num_actions=5)
        for obs, actions, rewards in my_log
    )
    write_dataset("data/my-log", episodes, agents=["left", "right"])

See ``docs/data_import.md``.
"""

from __future__ import annotations

from rllib_risk.data.arrays import make_episode
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.importing.importer import import_files
from rllib_risk.data.rows import DatasetError

__all__ = [
    "Dataset",
    "DatasetError",
    "Episode",
    "import_files",
    "make_episode",
    "write_dataset",
]

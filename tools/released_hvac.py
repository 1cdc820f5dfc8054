"""Evaluates the released HVAC policies of Qu et al. (ICLR 2026) on a grid of shifts.

The policies play the same days as ``rllib evaluate --shift`` with a checkpoint, so that
both can be compared cell by cell. The weights come from a checkout of the released code
(``iclr2026-anonymous/robust-coMARL``, commit f45a45a). Nothing else of it is used::

    python tools/released_hvac.py CHECKOUT robust_vdn_rho_0.008 robust_vdn_g_rho_0.5

Each policy is a folder ``results_seeds_*/NAME_DATE_TIME``. The tool prints the mean
``normalised_return`` of each cell and its mean over the runs of a name. It also prints
the population standard deviation over runs, divided by the square root of their number,
as published.

Letters: ``E`` environments, ``N`` agents, ``D`` observation size, ``A`` actions, ``C``
cells.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rllib_risk import register
from rllib_risk.algorithms import config_class
from rllib_risk.cli.shift import ShiftOptions, load_grid
from rllib_risk.core.envs import start_env
from rllib_risk.env_wrappers.episode_loop import Player
from rllib_risk.evaluation.shift_runs import cell_configs, play

ACTIONS, WINDOW, HIDDEN = 200, 8, 64


class Network(nn.Module):
    """One agent's Q-network, with the parameter names of the released files."""

    def __init__(self, obs_size: int) -> None:
        """Creates the layers.

        Args:
            obs_size: ``D``.
        """
        super().__init__()
        self.fc1 = nn.Linear(obs_size + ACTIONS, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.fc_out = nn.Linear(HIDDEN, ACTIONS)

    def forward(self, window: Tensor) -> Tensor:
        """Computes the values after the last step of a window.

        Args:
            window: Observations and one-hot previous actions, ``[E, WINDOW, D + A]``.

        Returns:
            Values ``[E, A]``.
        """
        outputs, _ = self.lstm(torch.relu(self.fc1(window)))
        values: Tensor = self.fc_out(torch.relu(outputs[:, -1]))
        return values


class ReleasedTeam(Player):
    """Acts greedily with released weights, in several environments at once.

    A window has the last :data:`WINDOW` steps. Before an episode it holds zero
    observations and the previous action 0, as in the released evaluation.
    """

    def __init__(self, folder: Path, num_envs: int, obs_size: int) -> None:
        """Loads the weights.

        Args:
            folder: Folder of a released run.
            num_envs: ``E``.
            obs_size: ``D``.
        """
        files = sorted((folder / "network_parameter").glob("agent_*_q_network.pt"))
        self.networks = []
        for file in files:
            network = Network(obs_size)
            # weights_only reads tensors alone and runs no code of the file.
            network.load_state_dict(torch.load(file, weights_only=True))
            self.networks.append(network)
        shape = len(files), num_envs, WINDOW, obs_size + ACTIONS
        self.windows = torch.zeros(shape)  # [N, E, WINDOW, D + A]
        self.previous = np.zeros((num_envs, len(files)), np.int64)
        self.obs_size = obs_size
        self.reset(np.arange(num_envs), 0)

    @torch.no_grad()
    def act(self, obs: np.ndarray, action_mask: np.ndarray) -> tuple[np.ndarray, float]:
        """See :meth:`Player.act`; all actions are available."""
        self.windows = self.windows.roll(-1, dims=2)
        newest = self.windows[:, :, -1]
        newest.zero_()
        newest[..., : self.obs_size] = torch.from_numpy(obs).transpose(0, 1)
        actions = torch.from_numpy(self.previous).T.unsqueeze(-1)
        newest[..., self.obs_size :].scatter_(-1, actions, 1.0)
        chosen = [
            network(window).argmax(-1)
            for network, window in zip(self.networks, self.windows, strict=True)
        ]
        self.previous = torch.stack(chosen, dim=1).numpy()
        return self.previous, 1.0

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """See :meth:`Player.reset`."""
        self.windows[:, slots] = 0.0
        self.windows[:, slots, :, self.obs_size] = 1.0  # action 0
        self.previous[slots] = 0


def main() -> None:
    """Prints one line per released run, and two per name."""
    parser = ArgumentParser(description="Evaluate the released HVAC policies.")
    parser.add_argument("checkout", type=Path, help="checkout of the released code")
    parser.add_argument("names", nargs="+", help="such as robust_vdn_rho_0.008")
    parser.add_argument(
        "--shift",
        default="shift/hvac-cities-seasons",
        help="file or example of a grid (default: %(default)s)",
    )
    arguments = parser.parse_args()
    register()
    grid = load_grid(arguments.shift, ShiftOptions())
    config = config_class("RobustVDN")().environment(
        "hvac", env_config={"city": "tucson", "bins": ACTIONS}
    )
    env = start_env(config)
    spec = env.spec_team
    env.close()
    configs = cell_configs(config, grid, spec)
    print("run", *(grid.cell_name(i) for i in range(len(configs))), sep="\t")
    for name in arguments.names:
        rows = []
        for folder in sorted(arguments.checkout.glob(f"results_seeds_*/{name}_[0-9]*")):
            played = play(
                configs,
                lambda envs, _, at=folder: ReleasedTeam(
                    at, envs.num_envs, spec.obs_size
                ),
                grid.episodes,
                grid.seed,
            )
            rows.append(played.metrics[grid.metric].mean(axis=1))  # [C]
            _print_row(f"{folder.parent.name}/{folder.name}", rows[-1])
        if not rows:
            parser.error(f"{arguments.checkout} has no results_seeds_*/{name}_*")
        _print_row(f"{name}: mean", np.mean(rows, axis=0))
        _print_row(f"{name}: standard error", np.std(rows, axis=0) / np.sqrt(len(rows)))


def _print_row(label: str, numbers: np.ndarray) -> None:
    print(label, *(f"{number:.3f}" for number in numbers), sep="\t", flush=True)


if __name__ == "__main__":
    main()

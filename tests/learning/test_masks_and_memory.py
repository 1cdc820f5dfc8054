"""Games that need the action mask or a memory, fitted on random legal episodes."""

from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv
from test_games import fit, greedy_return, make_networks, stack

from rllib_risk.env_wrappers.registry import make_team_env

SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])


class Identity(ParallelEnv):
    """Each agent must name the number it sees; its mask allows that and one other.

    An episode has one step and pays 1 for each right number. The seed chooses numbers
    and masks.
    """

    metadata = {"name": "identity"}  # noqa: RUF012
    numbers = 4

    def __init__(self):
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent):
        shape = (self.numbers,)
        return spaces.Dict(
            {
                "observation": spaces.Box(0, 1, shape, np.float32),
                "action_mask": spaces.MultiBinary(self.numbers),
            }
        )

    def action_space(self, agent):
        return spaces.Discrete(self.numbers)

    def look(self):
        return {
            agent: {"observation": np.eye(self.numbers, dtype=np.float32)[n], **mask}
            for agent, n, mask in zip(
                self.possible_agents, self.seen, self.masks, strict=True
            )
        }

    def reset(self, seed=None, options=None):
        rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.seen = rng.integers(self.numbers, size=2)
        self.masks = []
        for number in self.seen:
            mask = np.zeros(self.numbers, np.int8)
            mask[[number, (number + rng.integers(1, self.numbers)) % self.numbers]] = 1
            self.masks.append({"action_mask": mask})
        return self.look(), {agent: {} for agent in self.agents}

    def step(self, actions):
        reward = float(
            sum(actions[a] == n for a, n in zip(self.agents, self.seen, strict=True))
        )
        done = dict.fromkeys(self.agents, True)
        late, infos = dict.fromkeys(done, False), {agent: {} for agent in done}
        self.agents = []
        return self.look(), dict.fromkeys(done, reward), done, late, infos


def played(env, seed, choose):
    """Plays one episode; `choose` gets the action mask."""
    obs, _ = env.reset(seed=seed)
    rows, actions, rewards, done = [obs], [], [], False
    while not done:
        actions.append(choose(obs["action_mask"]))
        obs, reward, done, _, _ = env.step(np.array(actions[-1]))
        rows.append(obs)
        rewards.append(reward)
    return SimpleNamespace(rows=rows, rewards=rewards, actions=actions)


def fitted(env, seed, episodes, steps, **keys):
    """A team fitted on episodes of random legal actions."""
    rng = np.random.default_rng(seed)

    def legal(mask):
        return [int(rng.choice(np.flatnonzero(row))) for row in mask]

    batch = stack([played(env, number, legal) for number in range(episodes)])
    networks = make_networks(env, seed, mixer="vdn", **keys)
    fit(networks, batch, steps=steps)
    return networks[0]


@SEEDS
def test_the_masked_identity_game(seed):
    """R33: the greedy team names all numbers right, on seeds it was not fitted on."""
    factory = f"{__name__}:Identity"
    env = make_team_env("pettingzoo", {"factory": factory})
    network = fitted(env, seed, episodes=200, steps=300)
    returns = {greedy_return(network, env, number) for number in range(1000, 1030)}
    assert returns == {2.0}


@SEEDS
def test_a_recurrent_team_remembers(seed):
    """R33: the GRU learns the game; without a memory the mean return is at most 0.5."""
    env = make_team_env("memory_game", {"delay": 1})
    network = fitted(env, seed, episodes=40, steps=300, recurrent=True)
    assert {greedy_return(network, env, number) for number in range(16)} == {1.0}

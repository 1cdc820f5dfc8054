"""Exact values of MACN by dynamic programming over the joint cells.

The rules are written again here, one joint cell at a time. A test compares the env with
them, and the values are computed from them.
"""

import itertools

import numpy as np
import pytest

from rllib_risk.env_wrappers.macn.env import DOWN, MACN, RIGHT, UP

LIMIT = 100
WALKING, ONE_ON_GOAL, SUCCESS, FELL = range(4)


def move(cell, action, width):
    row, column = divmod(cell, width)
    if action == 0:
        row = max(row - 1, 0)
    elif action == 1:
        row = min(row + 1, 3)
    elif action == 2:
        column = max(column - 1, 0)
    else:
        column = min(column + 1, width - 1)
    return row * width + column


def outcome(cell_0, cell_1, width):
    cliff = range(3 * width + 1, 4 * width - 1)
    goal = 4 * width - 1
    if cell_0 in cliff or cell_1 in cliff:
        return FELL
    return {0: WALKING, 1: ONE_ON_GOAL, 2: SUCCESS}[[cell_0, cell_1].count(goal)]


class Chain:
    """The game as arrays over joint cells j = cell_0 * C + cell_1 and joint actions."""

    def __init__(self, width, cliff_reward=-100.0):
        self.width, self.cells = width, 4 * width
        ends = [move(c, a, width) for c in range(self.cells) for a in range(4)]
        table = np.array(ends).reshape(self.cells, 4)
        first, second = np.divmod(np.arange(self.cells**2), self.cells)
        # [16, J], joint action 4 * action_0 + action_1
        self.next = np.stack(
            [table[first, a] * self.cells + table[second, b] for a, b in PAIRS]
        )
        kinds = [
            outcome(c, d, width) for c in range(self.cells) for d in range(self.cells)
        ]
        self.kind = np.array(kinds)[self.next]  # [16, J]
        self.reward = np.array([-1.0, -0.5, 0.0, cliff_reward])[self.kind]
        self.goes_on = self.kind < SUCCESS
        self.start = self.cell(3, 0)

    def cell(self, row, column, other=None):
        one = row * self.width + column
        two = one if other is None else other[0] * self.width + other[1]
        return one * self.cells + two

    def optimal(self, gamma=1.0, epsilon=0.0):
        """Values [J] and the policy per step [LIMIT, J] of the best noisy team."""
        noise = np.full((4, 4), epsilon / 4) + np.eye(4) * (1 - epsilon)
        joint_noise = np.kron(noise, noise)  # [16 chosen, 16 played]
        value, policy = np.zeros(self.cells**2), []
        for _ in range(LIMIT):
            after = self.reward + gamma * self.goes_on * value[self.next]
            after = joint_noise @ after
            policy.append(after.argmax(axis=0))
            value = after.max(axis=0)
        return value, policy[::-1]

    def play(self, policy):
        """Return of a policy without noise."""
        joint, total = self.start, 0.0
        for actions in policy:
            action = actions[joint]
            total += self.reward[action, joint]
            if not self.goes_on[action, joint]:
                return total
            joint = self.next[action, joint]
        return total

    def evaluate(self, per_agent):
        """Return and P(fall) from the start if both follow per_agent [C, 4]."""
        first, second = np.divmod(np.arange(self.cells**2), self.cells)
        weights = [per_agent[first, a] * per_agent[second, b] for a, b in PAIRS]
        value = fall = np.zeros(self.cells**2)
        for _ in range(LIMIT):
            value = sum(weights * (self.reward + self.goes_on * value[self.next]))
            fall = sum(weights * ((self.kind == FELL) + self.goes_on * fall[self.next]))
        return value[self.start], fall[self.start]


PAIRS = list(itertools.product(range(4), range(4)))


@pytest.fixture(scope="module", params=[7, 12])
def chain(request):
    return Chain(request.param)


def row_policy(width, row, epsilon):
    """Goes up to `row`, right, then down; random with probability epsilon; [C, 4]."""
    rows, columns = np.divmod(np.arange(4 * width), width)
    actions = np.where(columns == width - 1, DOWN, np.where(rows > row, UP, RIGHT))
    table = np.full((4 * width, 4), epsilon / 4)
    table[np.arange(4 * width), actions] += 1 - epsilon
    return table


def test_the_env_follows_these_rules():
    """Tests every pair of free start cells and every joint action."""
    width = 7
    chain = Chain(width)
    free = [cell for cell in range(4 * width) if outcome(cell, cell, width) == WALKING]
    env = MACN(width=width)
    for one, two in itertools.product(free, free):
        # set the cells directly: building 484 envs would take longer than the test
        env.map = type(env.map)(
            env.map.cliff, env.map.goal, (divmod(one, width), divmod(two, width))
        )
        joint = one * chain.cells + two
        for k, (a, b) in enumerate(PAIRS):
            env.reset()
            _, rewards, terminations, _, infos = env.step({"agent_0": a, "agent_1": b})
            assert rewards["agent_0"] == rewards["agent_1"] == chain.reward[k, joint]
            assert terminations["agent_0"] == (not chain.goes_on[k, joint])
            assert infos["agent_0"]["is_success"] == (chain.kind[k, joint] == SUCCESS)
            state = env.state()
            after = (
                np.flatnonzero(state[: 4 * width]),
                np.flatnonzero(state[4 * width :]),
            )
            assert after[0] * chain.cells + after[1] == chain.next[k, joint]


def test_best_returns(chain):
    # width + 1 moves, and the last one pays 0: -width. Discounted with .99:
    # -(1 - .99^W) / .01, that is -6.7935 for 7 and -11.3615 for 12.
    width = chain.width
    assert chain.optimal()[0][chain.start] == pytest.approx(-width)
    discounted = chain.optimal(gamma=0.99)[0][chain.start]
    assert discounted == pytest.approx(-(1 - 0.99**width) / 0.01)
    assert discounted == pytest.approx({7: -6.7935, 12: -11.3615}[width], abs=1e-4)


def test_best_returns_from_other_starts(chain):
    value, _ = chain.optimal()
    best = -float(chain.width)
    # (0,0) and (3,0): W + 2 and W + 1 moves, so W steps at -1, one in which the first
    # waits at -0.5, the last free: -W - 0.5.
    # (2,0) and (3,0): W and W + 1 moves: -(W - 1) - 0.5.
    # Both at (0,0): W + 2 moves, and the last one is free: -(W + 1).
    assert value[chain.cell(0, 0, (3, 0))] == pytest.approx(best - 0.5)
    assert value[chain.cell(2, 0, (3, 0))] == pytest.approx(best + 0.5)
    assert value[chain.cell(0, 0)] == pytest.approx(best - 1.0)


def test_safe_plateaus(chain):
    # one row further from the edge is two moves more (up and down again)
    for row, extra in ((2, 0), (1, 2), (0, 4)):
        total, fall = chain.evaluate(row_policy(chain.width, row, 0.0))
        assert total == pytest.approx(-chain.width - extra) and fall == 0.0


# Returns and fall probabilities with epsilon .05 per agent; width, cliff reward, edge
# path (row 2), row 1, and the optimum given the noise.
NOISY = [
    (7, -100.0, (-21.57, 0.147), (-13.47, 0.0405), -12.735),
    (12, -100.0, (-35.49, 0.244), (-19.30, 0.0465), -18.318),
    (7, -50.0, (-14.22, 0.147), (-11.45, 0.0405), -11.241),
    (12, -50.0, (-23.28, 0.244), (-16.97, 0.0465), -16.752),
]


@pytest.mark.parametrize(("width", "cliff", "edge", "row_1", "best"), NOISY)
def test_values_under_exploration_noise(width, cliff, edge, row_1, best):
    chain = Chain(width, cliff)
    for row, (total, fall) in ((2, edge), (1, row_1)):
        got = chain.evaluate(row_policy(width, row, 0.05))
        assert got[0] == pytest.approx(total, abs=6e-3)
        assert got[1] == pytest.approx(fall, abs=6e-4)
    value, policy = chain.optimal(epsilon=0.05)
    assert value[chain.start] == pytest.approx(best, abs=1e-3)
    # without the noise the cautious team walks one row away: two moves more
    assert chain.play(policy) == -width - 2


@pytest.mark.parametrize(
    ("width", "total", "length"), [(7, -102.85, 3.858), (12, -102.84, 3.844)]
)
def test_the_random_policy(width, total, length):
    chain = Chain(width)
    alive = np.zeros(chain.cells**2)  # P(still walking, in joint cell j)
    alive[chain.start] = 1.0
    got_return = got_length = success = 0.0
    for _ in range(LIMIT):
        got_length += alive.sum()
        after = np.zeros_like(alive)
        for k in range(16):
            got_return += (alive * chain.reward[k]).sum() / 16
            success += (alive * (chain.kind[k] == SUCCESS)).sum() / 16
            np.add.at(after, chain.next[k], alive * chain.goes_on[k] / 16)
        alive = after
    assert got_return == pytest.approx(total, abs=5e-3)
    assert got_length == pytest.approx(length, abs=1e-3)
    assert success < 5e-5

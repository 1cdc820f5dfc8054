"""Acting with an exported team: one environment, several, one agent, wrong inputs."""

import numpy as np
import pytest
from exported import inputs, write_artefact

from rllib_risk.deploy import Agent, InputError, Team
from rllib_risk.parts.acting import NumpyActor
from rllib_risk.parts.exploration import PolicySampler


@pytest.fixture(params=[True, False], ids=["shared", "a network each"])
def folder(request, tmp_path):
    write_artefact(tmp_path, parameter_sharing=request.param)
    return tmp_path


def test_a_batch_acts_as_its_environments_do_alone(folder):
    together, alone = Team.load(folder, 3), [Team.load(folder) for _ in range(3)]
    for step, (obs, mask) in enumerate(inputs(8, 3)):
        if step == 4:
            together.reset([1])
            alone[1].reset()
        actions = together.act(obs, mask)
        assert actions.shape == (3, 3) and actions.dtype == np.int64
        for e, team in enumerate(alone):
            assert (team.act(obs[e], mask[e]) == actions[e]).all()
            np.testing.assert_allclose(
                team.utilities, together.utilities[e], rtol=1e-5, atol=1e-6
            )


def test_agents_on_their_own_act_as_the_team_does(folder):
    team = Team.load(folder)
    agents = [Agent(folder, "a"), team.agent("b"), Agent(team.artefact, "c")]
    for step, (obs, mask) in enumerate(inputs(8)):
        if step == 4:
            team.reset()
            for agent in agents:
                agent.reset()
        actions = team.act(obs, mask).tolist()
        sizes = [(5, 4), (5, 4), (3, 2)]
        assert actions == [
            agent.act(obs[i, :d], mask[i, :a])
            for i, (agent, (d, a)) in enumerate(zip(agents, sizes, strict=True))
        ]


def test_a_dict_of_observations_gives_a_dict_of_actions(folder):
    arrays, named = Team.load(folder), Team.load(folder)
    for obs, mask in inputs(5):
        rows = {"a": obs[0], "b": obs[1].tolist(), "c": obs[2, :3]}
        masks = {"c": mask[2, :2], "b": mask[1], "a": mask[0].astype(int).tolist()}
        expected = arrays.act(obs, mask).tolist()
        assert named.act(rows, masks) == dict(zip("abc", expected, strict=True))


def test_remember_replaces_the_last_actions(tmp_path):
    network = write_artefact(tmp_path)
    team, actor = Team.load(tmp_path), NumpyActor(network, 1)
    changed = 0
    for obs, mask in inputs(8):
        utilities, _ = actor.act(obs[None], mask[None])
        changed += (team.act(obs, mask) != 0).sum()
        np.testing.assert_allclose(team.utilities, utilities[0], rtol=1e-5, atol=1e-6)
        team.remember(np.zeros(3, np.int64))  # a safety layer chose action 0
        actor.remember(np.zeros((1, 3), np.int64))
    assert changed > 0
    with pytest.raises(InputError, match=r"\[0, 0, 2\] are not actions of the team"):
        team.remember([0, 0, 2])  # agent c has two actions


def test_actions_are_drawn_as_in_training(tmp_path):
    network = write_artefact(tmp_path, stochastic=True)
    team, actor = Team.load(tmp_path, 3), NumpyActor(network, 3)
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    sampler, epsilon = PolicySampler(3, 3), np.full(3, 0.1)
    for obs, mask in inputs(20, 3):
        utilities, _ = actor.act(obs, mask)
        expected = sampler.explore(utilities, mask, epsilon, theirs)
        assert (team.act(obs, mask, rng=ours) == expected).all()
        actor.remember(expected)


OBS, MASK = np.zeros((3, 5), np.float32), np.array([[1, 1, 1, 1]] * 2 + [[1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("obs", "mask", "message"),
    [
        (OBS[0], MASK, r"obs of the team of 3 agents must have shape \[3, 5\].*\[5\]"),
        (OBS[:1], MASK, r"must have shape \[3, 5\], found shape \[1, 5\]"),
        (np.zeros((4, 5)), MASK, r"must have shape \[3, 5\], found shape \[4, 5\]"),
        ([[1.0], [1.0, 2.0]], MASK, "found something that is not an array"),
        (np.full((3, 5), "x"), MASK, "found something that is not an array"),
        (OBS + np.array([[0], [np.nan], [0]]), MASK, r"holds nan at \[1, 0\]"),
        (OBS + np.array([[0], [1e39], [0]]), MASK, r"holds 1e\+39 at \[1, 0\]"),
        (OBS + 3e38, MASK, "networks overflow: their utilities are infinite or NaN"),
        (OBS, None, "action_mask of the team of 3 agents is missing"),
        (OBS, MASK[0], r"action_mask .* must have shape \[3, 4\], found shape \[4\]"),
        (OBS, MASK * [[1], [0], [1]], r"allows no action, at \[1\]"),
        (OBS, np.ones((3, 4)), r"an action that does not exist, at \[2, 2\]"),
        (OBS, MASK * 0.5, "must hold only 0 and 1"),
        (OBS, MASK * np.nan, "must hold only 0 and 1"),
        ({"a": OBS[0], "b": OBS[0]}, None, r"obs lacks agent 'c'.*3 agents, a, b, c"),
        (dict.fromkeys("abcd", OBS[0]), None, "obs has the unknown agent 'd'"),
        (dict.fromkeys("abc", OBS[0]), None, r"agent 'c' must have shape \[3\]"),
        (dict.fromkeys("abc", OBS[0, :3]), None, r"agent 'a' must have shape \[5\]"),
    ],
)
def test_a_wrong_input_is_an_error_and_loses_nothing(tmp_path, obs, mask, message):
    write_artefact(tmp_path)
    team, twin = Team.load(tmp_path), Team.load(tmp_path)
    good = list(inputs(2))
    assert (team.act(*good[0]) == twin.act(*good[0])).all()
    with pytest.raises(InputError, match=message):
        team.act(obs, mask)
    assert (team.act(*good[1]) == twin.act(*good[1])).all()
    np.testing.assert_array_equal(team.utilities, twin.utilities)


@pytest.mark.parametrize("earned", [np.nan, np.inf, -np.inf, 1e39])
def test_a_return_so_far_that_is_no_number_is_refused(tmp_path, earned):
    write_artefact(tmp_path, objective="static")
    team, agent = Team.load(tmp_path, 2), Agent(tmp_path, "a")
    found = r"return_so_far of the episode holds (-?inf|nan|1e\+39)"
    obs, masks = np.stack([OBS, OBS]), np.stack([MASK, MASK])
    with pytest.raises(InputError, match=rf"{found} at \[1\]"):
        team.act(obs, masks, return_so_far=[0.0, earned])
    with pytest.raises(InputError, match=rf"{found}\. Give finite numbers"):
        agent.act(OBS[0], MASK[0], return_so_far=earned)
    assert agent.act(OBS[0], MASK[0], return_so_far=1.0) in range(4)


def test_further_inputs_are_refused_where_they_mean_nothing(tmp_path):
    write_artefact(tmp_path)
    team, agent = Team.load(tmp_path), Agent(tmp_path, "c")
    with pytest.raises(InputError, match="rng: QMIX learned values"):
        team.act(OBS, MASK, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="return_so_far: this team does not use it"):
        team.act(OBS, MASK, return_so_far=1.0)
    with pytest.raises(InputError, match=r"agent 'c' must have shape \[3\]"):
        agent.act(OBS[0], [1, 1])
    with pytest.raises(InputError, match="action_mask of agent 'c' is missing"):
        agent.act(OBS[0, :3])
    with pytest.raises(InputError, match="actions 0 to 1, not 2"):
        agent.remember(2)
    with pytest.raises(InputError, match=r"actions 0 to 1, not 0\.5"):
        agent.remember(0.5)
    with pytest.raises(InputError, match="no agent 'd'; known: a, b, c"):
        team.agent("d")
    with pytest.raises(InputError, match="a dict is for one environment"):
        Team.load(tmp_path, 2).act(dict.fromkeys("abc", OBS[0]))


def test_without_masks_in_training_every_own_action_is_available(tmp_path):
    write_artefact(tmp_path, masks=False)
    team, masked = Team.load(tmp_path), Team.load(tmp_path)
    for obs, _ in inputs(5):
        assert (team.act(obs) == masked.act(obs, MASK)).all()
        assert (team.utilities[2, 2:] == -np.inf).all()

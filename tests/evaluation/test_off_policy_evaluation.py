"""Policies evaluated on a log: replay, clone, FQE, and conditions of a verdict."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import rllib_risk
from rllib_risk.core.checkpoint import read_config
from rllib_risk.core.dataset_recording import record, scripted_player, trained_player
from rllib_risk.core.off_policy.fqe import FqeSettings, fit_fqe
from rllib_risk.core.off_policy.fqe_parts import find_paths
from rllib_risk.core.off_policy.log import Log, Replayed, replay
from rllib_risk.core.policy_loading import load_policy
from rllib_risk.core.record import from_record
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.episodes import collate
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.evaluation.off_policy import estimates
from rllib_risk.evaluation.off_policy.behaviour import Behaviour, clone_behaviour
from rllib_risk.evaluation.off_policy.estimates import (
    Choices,
    Interval,
    MethodResult,
    evaluate_policy,
    support_of,
)
from rllib_risk.evaluation.off_policy.report import OffPolicyResults, write_off_policy
from rllib_risk.evaluation.trace_runs import trace_episode
from rllib_risk.ops.off_policy import weighted_cvar

OLD = Path(__file__).parents[1] / "data" / "old_checkpoints" / "0.1.0"
FACTS = json.loads((OLD / "expected.json").read_text())


@pytest.fixture(autouse=True)
def _registered():
    rllib_risk.register()


def opened(name):
    """Policy and configuration of a stored checkpoint, without starting Ray."""
    config = from_record(read_config(OLD / name), trust_code=False)
    if config.env is None:
        sizes = Dataset(OLD / "uav-log").card.sizes
        card = Dataset(OLD / "uav-log").card
        config.environment(card.env, env_config=dict(card.env_config))
    else:
        env = make_team_env(config.env, config.env_config)
        spec = env.spec_team
        sizes = TeamSizes(
            spec.num_agents, spec.num_actions, spec.obs_size, spec.state_size
        )
    return load_policy(OLD / name, sizes), config


@pytest.mark.parametrize("name", sorted(FACTS["runs"]))
def test_a_policy_without_its_algorithm_acts_as_it_did(name):
    policy, config = opened(name)
    trace = trace_episode(policy, config, FACTS["seed"])
    values = np.where(trace.action_mask, trace.values, 0.0)
    np.testing.assert_allclose(values, FACTS["runs"][name]["values"], atol=2e-4)


@pytest.mark.parametrize("name", sorted(FACTS["runs"]))
def test_a_policy_replayed_over_its_own_episodes_takes_its_own_actions(name):
    """R49: policies with memory, with risk levels and with windows."""
    policy, config = opened(name)
    log = Log.of(record(config, [trained_player(policy, 0.0)], 12, seed=3))
    replayed = replay(policy, log)
    assert replayed.is_deterministic
    assert (replayed.taken(log.actions) == 1.0).all()
    encoder = policy.network.agents[0].encoder
    has = encoder.has_memory or policy.config.get("acting_window") is not None
    assert (replayed.memory.shape[-1] > 0) == bool(has)


def test_blocks_of_episodes_do_not_mix(monkeypatch):
    from rllib_risk.core.off_policy import log as module

    policy, config = opened("rmix")
    log = Log.of(record(config, [scripted_player(RandomPolicy(), 0.0)], 7, seed=3))
    whole = replay(policy, log)
    monkeypatch.setattr(module, "_BLOCK", 3)
    parts = replay(policy, log)
    np.testing.assert_array_equal(whole.probabilities, parts.probabilities)
    np.testing.assert_allclose(whole.memory, parts.memory, atol=1e-6)


def test_a_stochastic_policy_has_the_probabilities_that_it_learns_with():
    policy, config = opened("coma")
    episodes = list(record(config, [scripted_player(RandomPolicy(), 0.0)], 4, seed=3))
    log = Log.of(episodes)
    replayed = replay(policy, log, stochastic=True)
    with torch.no_grad():
        learned = policy.probabilities(policy.tensors(collate(episodes)))
    expected = np.concatenate(
        [learned[e, : len(episode)] for e, episode in enumerate(episodes)]
    )
    np.testing.assert_allclose(replayed.probabilities, expected, atol=1e-5)
    assert not replayed.is_deterministic


def random_log(rng, number, *, steps=4, states=3, actions=2):
    """A log of one agent in a random game, its states and policy, the game's tables."""
    moves = rng.dirichlet(np.ones(states), size=(states, actions))
    rewards = rng.normal(size=(states, actions))
    played = rng.dirichlet(np.full(actions, 3.0), size=states)
    state = np.zeros(number, int)
    rows = []
    for _ in range(steps):
        luck, fate = rng.random((2, number, 1))
        action = (played[state].cumsum(-1) <= luck).sum(-1)
        rows.append((state, action, rewards[state, action]))
        state = (moves[state, action].cumsum(-1) <= fate).sum(-1)
    seen, done, paid = (
        np.stack(part, 1).reshape(-1) for part in zip(*rows, strict=True)
    )
    one_hot = np.eye(states, dtype=np.float32)[seen]
    log = Log(
        one_hot[:, None],
        one_hot,
        np.ones((len(seen), 1, actions), np.uint8),
        done[:, None],
        paid,
        np.full(number, steps),
    )
    return log, seen, played, (moves, rewards)


def replay_table(table, seen):
    nothing = np.zeros((len(seen), 0), np.float32)
    return Replayed(table[seen][:, None], nothing)


def test_arrays_by_hand():
    rng = np.random.default_rng(0)
    log, *_ = random_log(rng, 3, steps=2)
    log = Log(**{**vars(log), "lengths": np.array([2, 1, 3])})
    assert log.starts.tolist() == [0, 2, 3]
    assert log.episode.tolist() == [0, 0, 1, 2, 2, 2]
    assert log.time.tolist() == [0, 1, 0, 0, 1, 2]
    rewards = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    log = Log(**{**{k: vars(log)[k] for k in Log.__annotations__}, "rewards": rewards})
    # 1 + 2 / 2;  4;  8 + 16 / 2 + 32 / 4
    assert log.returns(0.5).tolist() == [2.0, 4.0, 24.0]
    assert log.padded(rewards).tolist() == [[1, 2, 0], [4, 0, 0], [8, 16, 32]]


def test_a_clone_states_the_probabilities_that_were_played():
    rng = np.random.default_rng(1)
    log, seen, played, _ = random_log(rng, 1200)
    cloned = clone_behaviour(log)
    gaps = np.abs(cloned.probabilities[:, 0] - played[seen])
    assert gaps.mean() < 0.04
    assert cloned.calibration_error < 0.05
    entropy = -(played * np.log(played)).sum(-1)[seen].mean()
    assert cloned.cross_entropy == pytest.approx(entropy, abs=0.05)


def tabular_fqe(log, seen, table, states=3, actions=2):
    """FQE without networks: means over the steps of each state, action and time."""
    values = np.zeros(states)
    steps = int(log.lengths[0])
    for t in reversed(range(steps)):
        rows = np.flatnonzero(log.time == t)
        after = values[seen[rows + 1]] if t + 1 < steps else 0.0
        targets = log.rewards[rows] + after
        q = np.zeros((states, actions))
        for s in range(states):
            for a in range(actions):
                same = (seen[rows] == s) & (log.actions[rows, 0] == a)
                q[s, a] = targets[same].mean() if same.any() else 0.0
        values = (table * q).sum(-1)
    return values[seen[log.time == 0]].mean()


@pytest.mark.parametrize("greedy", [True, False])
def test_fqe_agrees_with_tables_on_a_problem_of_one_agent(greedy):
    """R49: off-policy evaluation.

    A second implementation gets the same data. The distribution is simulated.
    """
    rng = np.random.default_rng(5)
    log, seen, _, (moves, rewards) = random_log(rng, 500)
    table = rng.dirichlet(np.ones(2), size=3)
    if greedy:
        table = np.eye(2)[table.argmax(-1)]
    settings = FqeSettings(members=3, seed=2)
    fit = fit_fqe(log, replay_table(table, seen), settings=settings)
    spread = log.returns().std()
    expected = tabular_fqe(log, seen, table)
    assert fit.start_values.mean() == pytest.approx(expected, abs=0.15 * spread)
    state, returns = np.zeros(20_000, int), np.zeros(20_000)
    for _ in range(4):
        luck, fate = rng.random((2, 20_000, 1))
        action = (table[state].cumsum(-1) <= luck).sum(-1)
        returns += rewards[state, action]
        state = (moves[state, action].cumsum(-1) <= fate).sum(-1)
    found = fit.start_quantiles.reshape(-1)
    tail = weighted_cvar(found, np.ones(len(found)), 0.2)
    truth = weighted_cvar(returns, np.ones(20_000), 0.2)
    assert tail == pytest.approx(truth, abs=0.4 * spread)


def test_fqe_settles_on_long_episodes():
    """R49: FQE does not stop while values are still near those of the log.

    Each of 40 steps pays its action, 0 or 1. The log's actions are uniform, so it
    returns 20 on average. The policy always takes 1: it returns 40 and differs from the
    log in half of the steps.
    """
    rng = np.random.default_rng(8)
    done = rng.integers(2, size=(60 * 40, 1))
    constant = np.zeros((len(done), 1), np.float32)
    log = Log(
        constant[:, None],
        constant,
        np.ones((len(done), 1, 2), np.uint8),
        done,
        done[:, 0].astype(float),
        np.full(60, 40),
    )
    always = np.array([[0.0, 1.0]])
    replayed = replay_table(always, np.zeros(len(done), int))
    settings = FqeSettings(members=3, hidden=16, batch_size=32)
    fit = fit_fqe(log, replayed, settings=settings)
    assert fit.settled
    assert fit.mean == pytest.approx(40.0, abs=1.0)
    # The residuals of the first episode, one step at a time.
    first = sum(
        log.rewards[t] + (fit.values[t + 1] if t < 39 else 0.0) - fit.taken_values[t]
        for t in range(40)
    )
    assert fit.left_over[0] == pytest.approx(first)
    # Each zero after the first step of an episode costs one bootstrap.
    paths = find_paths(log, replayed, 1.0)
    zeros = (done.reshape(60, 40)[:, 1:] == 0).sum(1)
    assert paths.max_bootstraps == zeros.max()


def test_an_estimate_that_does_not_settle_is_refused():
    rng = np.random.default_rng(9)
    log, seen, played, _ = random_log(rng, 20)
    behaviour = Behaviour(played[seen][:, None], 0.0, 0.0)
    stiff = FqeSettings(check_every=5, max_updates=10, tau=1.0, tolerance=0.0)
    choices = Choices(methods=("fqe", "dm", "wis"), fqe=stiff, min_ess=1.0)
    found = evaluate_policy(
        log, behaviour, replay_table(played, seen), choices, label="same"
    )
    fqe, dm, wis = found.methods
    assert fqe.mean is None and dm.mean is None and wis.mean is not None
    assert "did not settle on an estimate in 10 updates" in fqe.refused
    # Actions that the data lack are refused, too: by its behaviour policy the log takes
    # action 1 in 0.5 % of its steps, and the policy takes 1 in two thirds.
    behaviour = Behaviour(np.tile([0.995, 0.005], (len(seen), 1, 1)), 0.0, 0.0)
    table = np.tile([1 / 3, 2 / 3], (3, 1))
    choices = Choices(methods=("fqe",), fqe=stiff)
    found = evaluate_policy(
        log, behaviour, replay_table(table, seen), choices, label="same"
    )
    assert "support its actions in 33% of the steps" in found.methods[0].refused


def test_held_out_members_never_saw_the_episode():
    rng = np.random.default_rng(6)
    log, seen, played, _ = random_log(rng, 20)
    quick = FqeSettings(members=4, check_every=5, max_updates=10, tau=1.0)
    fit = fit_fqe(log, replay_table(played, seen), settings=quick)
    assert fit.counts.shape == (4, 20)
    assert (fit.counts.sum(-1) == 20).all() and (fit.counts.min(-1) == 0).all()
    again = fit_fqe(log, replay_table(played, seen), settings=quick)
    np.testing.assert_array_equal(fit.taken_values, again.taken_values)


def test_the_log_evaluated_by_itself_is_the_log():
    """All ratios are one: importance sampling returns the log's own mean."""
    rng = np.random.default_rng(7)
    log, seen, played, _ = random_log(rng, 50)
    behaviour = Behaviour(played[seen][:, None], 0.0, 0.0)
    choices = Choices(methods=("wis",))
    found = evaluate_policy(
        log, behaviour, replay_table(played, seen), choices, label="same"
    )
    (wis,) = found.methods
    assert wis.mean.value == pytest.approx(log.returns().mean())
    assert wis.difference.value == pytest.approx(0.0, abs=1e-12)
    assert found.ess == pytest.approx(50.0) and found.support == 1.0
    assert found.verdict == "unknown"


def test_ratios_are_refused_below_the_stated_sample_size():
    """R49: off-policy evaluation."""
    rng = np.random.default_rng(8)
    log, seen, played, _ = random_log(rng, 50)
    behaviour = Behaviour(played[seen][:, None], 0.0, 0.0)
    never = np.eye(2)[played.argmin(-1)]
    replayed = replay_table(never, seen)
    choices = Choices(methods=("wis",), min_ess=40.0)
    found = evaluate_policy(log, behaviour, replayed, choices, label="rare")
    (wis,) = found.methods
    assert wis.mean is None and "40 are needed" in wis.refused
    assert found.sentence.startswith("These data cannot tell whether rare")


def test_support_by_hand():
    # Two agents. Step 0: the data support .8 of agent 0's probability and all of agent
    # 1's. Step 1: agent 0 takes an action that the data do not contain.
    played = np.array([[[0.995, 0.005], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]])
    would = np.array([[[0.8, 0.2], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    nothing = np.zeros((2, 0), np.float32)
    got = support_of(Behaviour(played, 0.0, 0.0), Replayed(would, nothing))
    assert got == pytest.approx((0.8 + 0.0) / 2)


@pytest.mark.parametrize(
    ("ends", "support", "ess", "verdict"),
    [
        ([("fqe", 1, 3), ("wis", 2, 5)], 0.9, 40, "better"),
        ([("fqe", 1, 3), ("wis", -1, 5)], 0.9, 40, "unknown"),
        ([("fqe", -3, -1)], 0.9, 40, "worse"),
        ([("fqe", 1, 3)], 0.4, 40, "unknown"),
        # The sample is too small to confirm the estimate of a network.
        ([("fqe", 1, 3)], 0.9, 20, "unknown"),
        # The direct method's interval is too narrow to decide anything.
        ([("dm", 1, 3)], 0.9, 40, "unknown"),
        ([], 0.9, 40, "unknown"),
    ],
)
def test_verdicts(ends, support, ess, verdict):
    found = [MethodResult(m, difference=Interval(2.0, a, b)) for m, a, b in ends]
    confirmed = ess >= Choices().min_ess
    assert estimates._verdict(found, support, confirmed) == verdict
    sentence = estimates._sentence("A", found, support, ess, 50, verdict, confirmed)
    assert ("cannot tell" in sentence) == (verdict == "unknown")


def test_files_hold_the_numbers(tmp_path):
    mean = Interval(2.0, 1.0, 3.0)
    policy = estimates.PolicyResult(
        "A|$1$",
        "folder",
        40.0,
        0.9,
        (
            MethodResult("fqe", mean, mean, mean, Interval(float("nan"), 0.0, 1.0)),
            MethodResult("wis", refused="too few"),
            MethodResult("dr", refused="no fit"),
        ),
        "better",
        "A is better.",
    )
    results = OffPolicyResults(
        "data",
        "uav",
        50,
        200,
        -5.0,
        Choices(methods=("fqe", "wis")),
        0.3,
        0.01,
        MethodResult("log", mean=mean, cvar=mean, below=mean),
        (policy,),
    )
    files = write_off_policy(results, tmp_path)
    assert [file.suffix for file in files] == [".md", ".csv", ".json", ".png"]
    assert all(file.stat().st_size > 0 for file in files)
    written = json.loads(files[2].read_text())
    assert written["policies"][0]["methods"][0]["mean"] == vars(mean)
    assert written["policies"][0]["methods"][0]["below"]["value"] is None
    text = files[0].read_text()
    assert "A\\|$1$ | wis | refused" in text
    assert "wis refused: too few." in text and "dr refused: no fit." in text
    assert files[1].read_text().count("\n") == 1 + 3 + 4 + 1 + 1

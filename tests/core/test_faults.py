"""Environments with one fault each: a run ends with the cause, or goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

import faulty_envs
import numpy as np
import pytest
from ray.exceptions import RayTaskError

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import ray_internals
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.core.runners import _TAG
from rllib_risk.env_wrappers import failures, notices
from rllib_risk.env_wrappers.batched_env import BatchedStep
from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    EnvFailedError,
    IllegalActionError,
    NonFiniteError,
)
from rllib_risk.env_wrappers.failures import EnvFailures
from rllib_risk.env_wrappers.guarded_twin import GuardedTwin, guarded
from rllib_risk.env_wrappers.scripted import RandomPolicy

GIVEN_UP = r"pettingzoo \(faulty_envs:Faulty\).* failed 3 times in a row .*"
IN_STEP = r".*\(step 3 of the episode"
# Fault -> class of the error and a part of its text. None: the fault is harmless.
FAULTS = {
    "": None,
    "float64": None,
    "info None": None,
    "NaN info": None,
    "close raises": None,
    "out of bounds": None,
    "raises without text": (
        EnvFailedError,
        GIVEN_UP + r"RuntimeError \(step 3 of the episode; .*faulty_envs.py, line",
    ),
    "memory": (EnvFailedError, GIVEN_UP + "MemoryError" + IN_STEP),
    "exits": (EnvFailedError, GIVEN_UP + "SystemExit: 3" + IN_STEP),
    "reset exits": (EnvFailedError, GIVEN_UP + r"SystemExit: 3 \(reset;"),
    "reset gives None": (EnvFailedError, r"reset\(\) must return .* returned None"),
    "reset gives no infos": (EnvFailedError, r"reset\(\) must return .*\(dict\)"),
    "options are needed": (EnvFailedError, r"TypeError.*faulty_envs.py, .* in reset"),
    "four values": (EnvFailedError, r"step\(\) must return .* 4 values" + IN_STEP),
    "no agents": (EnvFailedError, "agent 'a' acted but got no reward" + IN_STEP),
    "shape": (EnvFailedError, r"agent 'a' has shape \(5,\).* shape \(2,\)" + IN_STEP),
    "scalar": (EnvFailedError, r"agent 'a' has shape \(\)" + IN_STEP),
    "None observed": (EnvFailedError, "observation of agent 'a' is None" + IN_STEP),
    "text observed": (EnvFailedError, "agent 'a' must hold numbers" + IN_STEP),
    "missing agent": (EnvFailedError, "agent 'a' got no observation" + IN_STEP),
    "extra agent": (EnvFailedError, "of 'c', which is not in possible_ag" + IN_STEP),
    "unlisted agent": (EnvFailedError, r"\['c'\] are not in possible_ag" + IN_STEP),
    "agents change": (EnvConfigError, r"possible_agents of Faulty .* 'c'\] between"),
    "NaN in reset": (NonFiniteError, r"agent 'a' holds NaN or inf \(reset\)\. Fix"),
    "infinite": (NonFiniteError, "agent 'a' holds NaN or inf" + IN_STEP),
    "NaN reward": (NonFiniteError, "rewards are not finite: a: nan" + IN_STEP),
    "huge reward": (NonFiniteError, r"not finite: a: 1e\+300" + IN_STEP),
    "no reward": (EnvFailedError, "agent 'a' acted but got no reward" + IN_STEP),
    "reward None": (EnvFailedError, "agent 'a' must be a number, not None" + IN_STEP),
    "reward array": (EnvFailedError, r"agent 'a' must be a number, not array\(\[1"),
    "reward text": (EnvFailedError, "agent 'a' must be a number, not '1.0'" + IN_STEP),
    "RLlib flags": (EnvFailedError, "terminations of '__all__', which is not"),
    "flag text": (EnvFailedError, "termination flag of agent 'a' must be true or"),
    "info list": (EnvFailedError, r"info of agent 'a' must be a dict, not \[1\]"),
    "huge": None,
    "never ends": (EnvContractError, "has not ended after 50 steps. Give the env"),
    "hangs": (EnvFailedError, r"step\(\) did not return within 1 s.*" + IN_STEP),
    "close hangs": None,
    "interrupts": (KeyboardInterrupt, None),
}

# Ray itself ends a task that raises KeyboardInterrupt.
REMOTE = {"interrupts": (RayTaskError, "TaskCancelledError")}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Forgets earlier notices, and removes the waits after failures."""
    monkeypatch.setattr(failures, "BACKOFF_S", 0.0)
    notices.forget()


def faulty_config(fault=None, runners=0, factory="faulty_envs:Faulty", **kwargs):
    kwargs = kwargs if fault is None else {"fault": fault, **kwargs}
    config = config_class("VDN")().environment(
        "pettingzoo", env_config={"factory": factory, "kwargs": kwargs}
    )
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=2)
    config.training(batch_size_episodes=4, learning_starts_episodes=4, hidden_size=8)
    config.training(max_episode_steps=50, env_timeout_s=1)
    config.min_sample_timesteps_per_iteration = 20
    config.evaluation_duration = 2
    return config.debugging(seed=7)


def play(config, num_episodes=40):
    """Plays at random, as `rllib record` does."""
    player = scripted_player(RandomPolicy(), 0.0)
    return list(record(config, [player], num_episodes, seed=0))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_ends_with_its_cause_or_does_no_harm(fault):
    """R20 for NaN: each fault is named with env, agent and step."""
    config, expected = faulty_config(fault), FAULTS[fault]
    number = 1 if fault == "hangs" else 40  # one copy, which hangs three times
    if expected is None:
        assert [len(episode) for episode in play(config, number)] == [5] * number
        return
    error, text = expected
    with pytest.raises(error, match=text):
        play(config, number)


@pytest.fixture
def two_runners(ray_local):
    """A function that trains on two remote runners whose envs have a fault."""
    algorithm = faulty_config(runners=2).build_algo()
    group = algorithm.env_runner_group

    def train(fault):
        def renew(worker):
            faulty_envs = __import__("faulty_envs")
            faulty_envs.FAULT = fault
            worker.stop_envs()

        # Discards the other runner's answer to the previous fault.
        while ray_internals.num_unanswered(group, _TAG):
            ray_internals.take_answers(group, _TAG, 1.0)
        algorithm.replace_lost_runners(group)  # RLlib counts an error as a loss.
        group.foreach_env_runner(renew, local_env_runner=False)
        return [algorithm.train() for _ in range(2)][-1]

    yield train
    algorithm.stop()


@pytest.mark.parametrize(
    "faults",
    [
        [fault for fault in FAULTS if fault != "hangs"],
        pytest.param(["hangs"], marks=pytest.mark.long),
    ],
    ids=["quick", "slow"],
)
def test_every_fault_of_a_remote_runner_too(two_runners, faults):
    for fault, expected in ((fault, (FAULTS | REMOTE)[fault]) for fault in faults):
        if expected is None:
            assert two_runners(fault)["evaluation"]["episodes"] == 2, fault
            continue
        error, text = expected
        with pytest.raises(error, match=text):
            two_runners(fault)


def test_a_runner_whose_process_ends_each_time_is_given_up(ray_local):
    config = faulty_config("ends the process", runners=1)
    algorithm = config.training(max_env_restarts=2).build_algo()
    with pytest.raises(RuntimeError, match=r"lost 2 times in a row.*faulty_envs:Faul"):
        algorithm.train()
    algorithm.stop()


def test_a_cause_is_told_once_and_every_lost_episode_is_counted(ray_local, caplog):
    config = faulty_config(factory="faulty_envs:Walk", step_crash=0.02)
    config.training(max_env_restarts=20)
    config.min_sample_timesteps_per_iteration = 500
    algorithm = config.build_algo()
    first, second = algorithm.train(), algorithm.train()
    algorithm.stop()
    told = first["env_notices"].splitlines()
    assert len(told) == 1 and "OSError: the simulator died (step " in told[0]
    assert "env_notices" not in second
    assert [r.message for r in caplog.records if "simulator" in r.message] == told
    crashes = first["num_env_crashes_lifetime"]
    # An iteration has 100 episodes and an evaluation, and loses about ten.
    assert 0 < crashes < second["num_env_crashes_lifetime"]


def test_the_soak_script_measures_memory_while_episodes_are_lost(
    ray_local, monkeypatch
):
    """R39: the short form of the script that measures the growth of a long run."""
    path = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    spec = importlib.util.spec_from_file_location("soak", path)
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    monkeypatch.setattr(soak, "STEPS_PER_ITERATION", 200)
    algorithm = soak.make_algorithm(0, crash_rate=0.02)
    minutes, memory, lost = soak.measure(algorithm, 600, show=False)
    algorithm.stop()
    assert memory.shape == (len(minutes), 1) and (memory > 50).all() and lost > 0
    # 10 MB in the first fifth, the warm-up; then 3 MB per minute.
    times = np.arange(10.0)
    line = np.where(times < 2, 5 * times, 10 + 3 * times)[:, None]
    np.testing.assert_allclose(soak.slopes(times, line), [3.0])


def test_a_replay_too_large_for_the_episodes_so_far_is_refused(
    ray_local, monkeypatch, caplog
):
    """Without max_episode_steps there is only a warning before the first episode."""
    monkeypatch.setattr("rllib_risk.core.replay_room.machine_memory", lambda: 10**6)
    algorithm = faulty_config().build_algo()
    with pytest.raises(ConfigError, match=r"of at most 5 steps.*Set buffer_size_epis"):
        algorithm.train()
    assert "max_episode_steps" in caplog.text
    algorithm.stop()


def test_bounds_and_close_are_told_once_each_and_stop_nothing(caplog):
    play(faulty_config("out of bounds"))
    play(faulty_config("close raises"))
    play(faulty_config("close raises"))
    bounds, close = (record.message for record in caplog.records)
    assert "agent 'a' of Faulty observes 1e+06" in bounds and "[-10, 10]" in bounds
    assert "close() of Faulty failed" in close and "the window is gone" in close


def test_a_run_tells_a_notice_once_and_the_next_run_again(ray_local, caplog):
    """Also if several of its workers are in one process."""
    for run in (1, 2):
        algorithm = faulty_config("close raises").build_algo()
        result = algorithm.train()
        algorithm.stop()
        told = [r for r in caplog.records if "close() of Faulty failed" in r.message]
        assert len(told) == run
        assert result["env_notices"].count("close() of Faulty failed") == 1


def test_the_traceback_is_logged_on_demand(caplog):
    with caplog.at_level("INFO", logger="rllib_risk"):
        EnvFailures("e", 1, 3).failed([0], error_of(1 / np.int8(1), "x" + "y"), 1)
    assert "Traceback" in caplog.text and "raise ValueError" in caplog.text


def error_of(*args):
    try:
        raise ValueError(*args)
    except ValueError as error:
        return error


def lose(failures, slot=0, error=None, step=3):
    failures.failed([slot], error or OSError("no answer"), step)


def test_only_a_whole_episode_ends_a_row_of_failures():
    counts = EnvFailures("e", 2, 3)
    for _ in range(5):
        lose(counts)
        lose(counts, slot=1)
        lose(counts)
        counts.completed(0)
        counts.completed(1)
    lose(counts)
    lose(counts, step=0)  # a failed reset counts as well
    with pytest.raises(EnvFailedError, match="failed 3 times in a row"):
        lose(counts)


def test_three_quarters_of_the_recent_episodes_are_the_limit():
    counts = EnvFailures("e", 1, 10**6)
    for _ in range(1000):  # two of three are lost
        lose(counts)
        lose(counts)
        counts.completed(0)
    with pytest.raises(EnvFailedError, match="lost 76 of its last 100 episodes"):
        for _ in range(100):
            lose(counts)


def test_nan_counts_among_the_recent_episodes_only():
    counts = EnvFailures("e", 1, 3)
    with pytest.raises(EnvFailedError, match=r"lost 76 of its last 100 .* NaN in a"):
        for _ in range(100):
            lose(counts, error=NonFiniteError("NaN in a"))
    # In reset() there is no episode to skip.
    counts = EnvFailures("e", 1, 3)
    with pytest.raises(EnvFailedError, match="3 times in a row"):
        for _ in range(5):
            lose(counts, error=NonFiniteError("NaN in a"), step=0)


def test_one_fault_of_all_copies_is_one_failure_of_each():
    counts = EnvFailures("e", 128, 3)
    for _ in range(2):
        counts.failed(range(128), OSError("the server died"), 3)
    with pytest.raises(EnvFailedError, match="failed 3 times in a row"):
        counts.failed(range(128), OSError("the server died"), 3)


def test_skipped_nan_episodes_need_no_other_key():
    # Half of the environment seeds give NaN.
    config = faulty_config(factory="faulty_envs:Walk", nan_in_odd_episodes=True)
    config.training(on_nonfinite="skip_episode")
    assert len(play(config, 200)) == 200
    config = faulty_config(factory="faulty_envs:Walk", nan_at=2)
    config.training(on_nonfinite="skip_episode")
    with pytest.raises(EnvFailedError, match="lost 97 of its last 128 episodes"):
        play(config)  # in 32 copies


def test_a_seed_that_cannot_start_gives_way_to_another(monkeypatch):
    asked = []

    def reset(self, seed=None, options=None):
        asked.append(seed)
        if seed % 2 == 0:
            raise ValueError("no level for this seed")
        return original(self, seed, options)

    original = faulty_envs.Walk.reset
    monkeypatch.setattr(faulty_envs.Walk, "reset", reset)
    assert len(play(faulty_config(factory="faulty_envs:Walk"), 4)) == 4
    even = next(seed for seed in asked if seed and seed % 2 == 0)
    at = asked.index(even)
    assert asked[at : at + 3] == [even, even, even ^ 1]


class Twin(GuardedTwin):
    """A vectorised two-step game; ``script`` says what the next calls do."""

    made = 0
    script: ClassVar[list[str]] = []

    def __init__(self, num_envs):
        from rllib_risk.env_wrappers.registry import make_batched

        type(self).made += 1
        self.inner = make_batched("two_step", {}, num_envs)
        self.num_envs, self.spec = num_envs, self.inner.spec
        self.obs, self.state = self.inner.obs, self.inner.state
        self.action_mask, self.order = self.inner.action_mask, self.inner.order

    def reset(self, slots, seeds):
        if self.script and self.script[0] == "reset":
            self.script.pop(0)
            raise OSError("the server is gone")
        self.inner.reset(slots, seeds)

    def step(self, actions, active):
        what = self.script.pop(0) if self.script else None
        if what == "raise":
            raise OSError("the server died")
        step = self.inner.step(actions, active)
        if what == "nan":
            self.obs[1, 0, 0] = np.nan
        return step

    def close(self):
        self.inner.close()


@pytest.fixture
def twin():
    Twin.made, Twin.script = 0, []
    return guarded(lambda: Twin(3), 3, max_restarts=3, env_name="twin")


def act(twin, active=(1, 1, 1)) -> BatchedStep:
    actions = twin.action_mask.argmax(-1)
    return twin.step(actions, np.array(active, bool))


def test_a_vectorised_env_that_raises_costs_its_running_episodes(twin):
    twin.reset(np.arange(3), np.arange(3))
    Twin.script = ["raise"]
    step = act(twin, (1, 1, 0))
    assert set(step.crashed) == {0, 1} and not step.terminateds.any()
    assert "the server died (step 1 of the episode; " in step.crashed[0]
    twin.reset(np.arange(2), np.arange(2))
    assert Twin.made == 2 and np.isfinite(twin.obs).all()
    np.testing.assert_array_equal(twin.obs, twin.twin.obs)
    assert not act(twin, (1, 1, 0)).crashed
    np.testing.assert_array_equal(twin.obs, twin.twin.obs)


def test_a_reset_that_raises_costs_the_episodes_beside_it(twin):
    twin.reset(np.arange(3), np.arange(3))
    Twin.script = ["reset"]
    twin.reset(np.array([0]), np.array([4]))
    step = act(twin)
    assert set(step.crashed) == {1, 2} and Twin.made == 2


def test_nan_of_a_vectorised_env_costs_one_episode(twin):
    twin.reset(np.arange(3), np.arange(3))
    Twin.script = ["nan"]
    step = act(twin)
    assert list(step.crashed) == [1] and step.crashed[1].startswith("NonFiniteError")
    twin.reset(np.array([1]), np.array([5]))
    assert not act(twin).crashed


def test_a_vectorised_env_that_always_raises_is_given_up(twin):
    with pytest.raises(EnvFailedError, match=r"'twin' failed 3 times.* server died"):
        for _ in range(5):
            twin.reset(np.arange(3), np.arange(3))
            Twin.script = ["raise"]
            act(twin)


def test_a_mistake_of_the_caller_is_not_a_fault_of_a_vectorised_env(twin):
    twin.reset(np.arange(3), np.arange(3))
    with pytest.raises(IllegalActionError):
        twin.step(np.full((3, 2), 99), np.ones(3, bool))
    assert Twin.made == 1

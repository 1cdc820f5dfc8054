"""The profile of a run's time, on a clock that only the test moves."""

import types

import pytest
from small_runs import small_config

from rllib_risk.algorithms import config_class
from rllib_risk.cli.time_advice import advice
from rllib_risk.cli.time_spent import GROUPS, TimeSpent, report_time
from rllib_risk.core.profile import NUM_UPDATES
from rllib_risk.core.stopwatch import Stopwatch

pytestmark = pytest.mark.usefixtures("ray_local")


class Clock:
    """A clock that only the test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def slow(self, owner, method, seconds):
        """Makes each call of a method take a number of seconds."""
        fast = getattr(owner, method)

        def slowed(*args, **kwargs):
            self.now += seconds
            slowed.calls += 1
            return fast(*args, **kwargs)

        slowed.calls = 0
        setattr(owner, method, slowed)
        return slowed


def test_a_part_within_another_interrupts_it():
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now = 2.0
    watch.switch("rest")
    with watch.part("forward"):
        clock.now = 5.0
        with pytest.raises(ValueError, match="x"), watch.part("backward"):
            clock.now = 9.0
            raise ValueError("x")
        clock.now = 10.0
    clock.now = 16.0
    parts = {"starting": 2.0, "rest": 6.0, "forward": 4.0, "backward": 4.0}
    assert watch.take() == parts
    clock.now = 17.0
    assert watch.seconds() == {"rest": 1.0}


@pytest.mark.parametrize("interval", [None, 7])
def test_every_second_of_a_run_is_in_its_part(interval):
    """Holds with and without updates while episodes are played."""
    clock = Clock()
    algorithm = small_config("VDN", update_interval_env_steps=interval).build_algo()
    # The stopwatch has run on the real clock since the start.
    algorithm.stopwatch._clock, algorithm.stopwatch._since = clock, 0.0
    algorithm.stopwatch._seconds.clear()
    runner, policy = algorithm.env_runner, algorithm.team_policy
    steps = clock.slow(runner.team_envs, "step", 100.0)
    resets = clock.slow(runner.team_envs, "reset", 1000.0)
    draws = clock.slow(algorithm.replay, "draw", 3.0)
    losses = clock.slow(policy, "team_loss", 5.0)
    moves = clock.slow(policy.optimizers[0], "step", 7.0)
    greedy = clock.slow(algorithm.eval_env_runner_group.local_env_runner, "_play", 11.0)
    results = algorithm.train()
    profile = results["profile"]
    assert draws.calls == losses.calls == moves.calls > 2
    assert profile["updates"] == results[NUM_UPDATES] == moves.calls
    assert profile["replay_s"] == 3.0 * draws.calls
    assert profile["forward_s"] == 5.0 * losses.calls
    assert profile["optimizer_s"] == 7.0 * moves.calls
    assert profile["environment_s"] == 100.0 * steps.calls + 1000.0 * resets.calls
    assert profile["evaluation_s"] == 11.0 * greedy.calls == 11.0
    spent = TimeSpent.of([results])
    assert sum(spent.seconds.values()) == clock.now
    assert sum(spent.shares().values()) == pytest.approx(1.0, abs=1e-12)
    algorithm.stop()


@pytest.mark.parametrize("runners", [0, 1])
def test_a_slow_environment_is_named_with_the_key_to_change(runners, capsys):
    config = config_class("VDN")()
    env_config = {"factory": "faulty_envs:Walk", "kwargs": {"sleep_s": 0.01}}
    config.environment("pettingzoo", env_config=env_config)
    config.env_runners(num_env_runners=runners)
    config.training(hidden_size=8, learning_starts_episodes=4, batch_size_episodes=4)
    config.min_sample_timesteps_per_iteration = 60
    config.evaluation_interval = None
    algorithm = config.build_algo()
    trial = types.SimpleNamespace(last_result=algorithm.train())
    algorithm.stop()
    report_time([trial], algorithm.config, table=True)
    printed = capsys.readouterr().out
    table, _, lines = printed.partition("Time, ")
    assert ("runners: environment" in table) == (runners == 1)
    assert ("Within the runners: environment" in lines) == (runners == 1)
    start = "Waiting for the runners" if runners else "The environment"
    last = lines.splitlines()[-1]
    assert last.startswith(start) and f"raise num_env_runners (now {runners})" in last


def advice_on(config, update_s=0.1, runners=None, **shares):
    """Advice for parts with these shares; ``rest`` has what is left."""
    parts = dict.fromkeys(GROUPS, 0.0) | shares
    parts["rest"] = 1.0 - sum(parts.values())
    return advice(parts, runners or {}, update_s, config)


def test_each_cause_names_its_keys():
    config = small_config("VDN", updates_per_episode=2.0)
    text = advice_on(config, acting=0.5)
    assert "took 50%" in text and "num_envs_per_env_runner (now 4)" in text
    config.env_runners(num_envs_per_env_runner=32)
    assert "num_env_runners (now 0)" in advice_on(config, acting=0.5)
    # Updates take half of the time after the start.
    text = advice_on(config, starting=0.5, update=0.25)
    assert text.startswith("Updates took 50% of the time after the start (100 ms each)")
    assert "num_learners (now 1)" in text and "updates_per_episode (now 2)" in text
    assert "num_learners" not in advice_on(config, update_s=0.01, update=0.8)
    idle = {"idle": 0.75, "environment": 0.25}
    assert "fewer num_env_runners" in advice_on(config, runners=idle, update=0.8)
    assert "0 plays in" in advice_on(
        config, runners=idle, **{"waiting for runners": 0.8}
    )
    assert "evaluation_interval (now 1)" in advice_on(config, evaluation=0.6)
    config.evaluation_interval, config.off_policy_interval = None, 2
    assert "off_policy_interval (now 2)" in advice_on(config, evaluation=0.6)
    config.evaluation_interval = 1
    assert "min_sample_timesteps_per_iteration" in advice_on(config)
    even = {"update": 0.3, "environment": 0.3, "acting": 0.3}
    assert advice_on(config, **even).startswith("No part took more than a third")
    config = small_config("MAPPO")
    assert "epochs_per_update (now 3)" in advice_on(config, update=0.8)
    config = config_class("VDN")().training(dataset="somewhere")
    text = advice_on(config, update=0.8)
    assert "sequence_length" in text and "updates_per_episode" not in text

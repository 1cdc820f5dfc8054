"""Learning in several processes: equal results, and the loss of a process."""

import os
import signal
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
import ray
import torch
import torch.distributed as dist
from critic_cases import make_policy as make_team
from gymnasium import spaces
from loss_cases import random_episode
from side_by_side import LOCALHOST, gradient_error, in_double, learn_side_by_side
from small_runs import fingerprint, small_config

import rllib_risk
from rllib_risk.algorithms import algorithm_class, config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import learner_link
from rllib_risk.core.learner_link import Link, LinkError
from rllib_risk.core.learners import LearnerLostError, merged
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import collate
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.losses.td import TDLoss

RAY = pytest.mark.usefixtures("ray_local")
LENGTHS = [(6, True), (3, False), (5, True), (4, False), (1, True)]
TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)


def episodes(lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [random_episode(rng, n, terminated=end) for n, end in lengths]


def make_policy(keys, base=ValueConfig):
    torch.manual_seed(0)
    config = base()
    config.update_from_dict({"hidden_size": 8, "seed": 5, "grad_clip": None} | keys)
    config.validate()
    policy = ValuePolicy(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())
    with torch.no_grad():
        for parameter in policy.target_network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return policy


def parameters_of(policy):
    modules = policy.modules().values()
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


# Gradients of a batch. test_composition.py tests every algorithm and pair of parts.

OTHERS = {
    "quantile step": ({"qr_gate": "step"}, "RMIX", "learn_quantiles_on_batch", ()),
    "dual variable": ({"rho": 0.2}, "RobustQMIX", "learn_dual_on_batch", (1,)),
    "its values": ({"rho": 0.2, "target": "tv"}, "RobustQMIX", "learn_on_batch", ()),
    "nested": (
        {"objective": "nested", "alpha": 0.4},
        "QMIX",
        "learn_dual_on_batch",
        (0,),
    ),
    "model of the data": (
        {"penalty": "counterfactual", "conservative_weight": 1.0},
        "QMIX",
        "learn_dual_on_batch",
        (0,),
    ),
    "its penalty": (
        {"penalty": "counterfactual", "conservative_weight": 1.0},
        "QMIX",
        "learn_on_batch",
        (),
    ),
    "random joint actions": (
        {"penalty": "sampled_joint", "conservative_weight": 1.0},
        "QMIX",
        "learn_on_batch",
        (),
    ),
    "learners of their own": (
        {"parameter_sharing": False},
        "IndependentQ",
        "learn_on_batch",
        (),
    ),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_steps_have_the_gradient_of_one_learner(case):
    keys, name, method, args = case
    policy = make_policy(keys, config_class(name))
    assert gradient_error(policy, collate(episodes()), method, *args) < 1e-6


@pytest.mark.parametrize(
    "keys",
    [
        {"sequence_length": 3, "burn_in": 2},
        {"sequence_length": 3, "burn_in": 2, "target_window": "shifted"},
        {"objective": "static", "alpha": 0.5},
        {"quantiles": "sampled", "num_atoms": 4, "loss": "quantile"},
    ],
    ids=str,
)
def test_sequences_and_drawn_numbers_are_those_of_the_whole_batch(keys):
    policy = make_policy(keys)
    replay = EpisodeReplay(50, seed=1)
    replay.add(episodes())
    if "sequence_length" in keys:
        batch = replay.sample_sequences(9, length=3, burn_in=2)
    else:
        batch = collate(episodes())
    if keys.get("objective") == "static":
        policy.network.objective.observe([-2.0, 5.0])
    assert gradient_error(policy, batch, learners=3) < 1e-6


@pytest.mark.parametrize("name", ["MAPPO", "IPPO"])
def test_normalised_advantages_and_minibatches_are_those_of_one_learner(name):
    # Minibatches have one or two episodes, so a learner often has none of them.
    keys = {"epochs_per_update": 2, "minibatches_per_epoch": 3, "hidden_size": 8}
    sizes = {"obs_size": 5, "state_size": 6, "agents": 3, "actions": 4}
    one, *two = (make_team(name, **sizes, **keys) for _ in range(3))
    for policy in two:
        for ours, theirs in zip(
            policy.modules().values(), one.modules().values(), strict=True
        ):
            ours.load_state_dict(theirs.state_dict())
    batches = [in_double(policy, collate(episodes())) for policy in (one, *two)]
    logged = learn_side_by_side(two, batches[0])
    expected = one.learn_on_batch(batches[0])
    for policy in two:
        assert torch.allclose(parameters_of(policy), parameters_of(one), atol=1e-12)
    assert logged == pytest.approx(expected, rel=1e-9)


def test_what_is_logged_is_of_the_whole_batch():
    # Weights 3/4 and 1/4: 0.75 * 2 + 0.25 * 6 = 3. Only the first has the norm.
    logged = [{"td_loss": 2.0, "grad_norm": 7.0}, {"td_loss": 6.0, "grad_norm": np.nan}]
    assert merged(logged, [0.75, 0.25]) == {"td_loss": 3.0, "grad_norm": 7.0}


def test_a_learner_that_does_not_answer_ends_the_wait(monkeypatch):
    monkeypatch.setattr(learner_link, "TIMEOUT_S", 1.0)
    server = dist.TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)
    links = {}

    def connect(rank):
        limit = timedelta(seconds=30)
        store = dist.TCPStore(LOCALHOST, server.port, timeout=limit)
        links[rank] = Link(store, rank, 2, LOCALHOST, torch.device("cpu"))

    threads = [threading.Thread(target=connect, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start = time.monotonic()
    with pytest.raises(LinkError):
        links[0].add_up([torch.ones(3)])
    assert time.monotonic() - start < 30


# Refused configurations


class PerEpisode(Loss):
    """A mean over episodes of means over their steps: not a mean over steps."""

    def loss(self, view):
        steps = view.mask.sum(dim=1)
        return ((view.errors.square() * view.mask).sum(dim=1) / steps).mean()


class LikeTD(TDLoss):
    """A mean over steps."""


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("COMA", {}, r"num_learners: COMA .*each step.*num_learners: 0"),
        ("DOP", {}, r"num_learners: DOP "),
        ("QMIX", {"batch_size_episodes": 2}, r"num_learners \(3\).*\(2\)"),
        ("QMIX", {"num_gpus_per_learner": 1}, r"num_gpus_per_learner.*equal num_gpus"),
        ("QMIX", {"num_cpus_per_learner": -1}, r"num_cpus_per_learner.*from 0"),
        (
            "QMIX",
            {"num_learners": 1, "num_cpus_per_learner": 2},
            r"num_cpus_per_learner: has no effect with num_learners: 1",
        ),
        ("QMIX", {"num_learners": -1}, r"num_learners"),
    ],
)
def test_what_learners_cannot_do_is_refused_with_the_reason(name, keys, message):
    config = config_class(name)()
    config.update_from_dict({"num_learners": 3} | keys)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        config.validate()


def test_losses_that_compare_episodes_are_refused():
    config = ValueConfig()
    config.update_from_dict({"num_learners": 2, "loss": "icq", "joint_critic": "icq"})
    (message,) = config.split_refusals()
    assert "loss 'icq'" in message and "num_learners: 0" in message


@pytest.mark.parametrize("loss", [PerEpisode, LikeTD])
def test_an_own_loss_is_tried_on_parts_of_a_batch(loss):
    config = ValueConfig().environment("macn")
    config.update_from_dict(
        {"num_learners": 2, "loss": f"{__name__}:{loss.__name__}", "mixer": "vdn"}
    )
    if loss is LikeTD:
        config.preflight()
        return
    with pytest.raises(ConfigError, match=r"num_learners: .*PerEpisode.*View\.mean"):
        config.preflight()


# Ray


def test_tune_reserves_the_learners():
    keys = {"env": "macn", "num_learners": 3, "num_cpus_per_learner": 2}
    request = algorithm_class("QMIX").default_resource_request(keys)
    assert request.bundles[1:] == [{"CPU": 2.0}] * 2
    alone = algorithm_class("QMIX").default_resource_request(
        keys | {"num_learners": 1, "num_cpus_per_learner": "auto"}
    )
    assert alone.bundles == request.bundles[:1]


def build(number, **keys):
    return small_config("RMIX", **keys).learners(num_learners=number).build_algo()


@RAY
def test_two_learners_give_the_numbers_of_one_and_each_time_the_same(tmp_path):
    one, two = build(0), build(2)
    for _ in range(3):
        expected, result = one.train()["learner"], two.train()["learner"]
    # The gradient is clipped: 10 is the limit.
    assert expected["grad_norm"] > 10.0 and "qr_loss" in expected
    assert result == pytest.approx(expected, rel=1e-4)
    found, sought = (parameters_of(a.team_policy) for a in (two, one))
    assert (found - sought).norm() < 1e-6 * sought.norm()
    # Two learners again, but with a stop after the second iteration.
    first = build(2)
    for _ in range(2):
        first.train()
    first.save_checkpoint(str(tmp_path))
    first.stop()
    again = algorithm_class("RMIX").from_checkpoint(tmp_path)
    assert again.config.num_learners == 2
    again.train()
    assert fingerprint(again) == fingerprint(two)
    # A checkpoint of two learners can be resumed with any number of learners.
    alone = rllib_risk.load(tmp_path)
    assert alone.config.num_learners == 0
    alone.train()
    found = parameters_of(alone.team_policy)
    assert (found - sought).norm() < 1e-6 * sought.norm()
    for algorithm in (one, two, again, alone):
        algorithm.stop()


@RAY
def test_a_killed_learner_ends_the_update_and_leaves_no_half_of_it():
    algorithm = build(2)
    algorithm.train()
    (learner,) = algorithm._learners._learners
    pid = ray.get(learner.__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    before = parameters_of(algorithm.team_policy)
    start = time.monotonic()
    with pytest.raises(LearnerLostError, match=r"^num_learners: .*lost.*max_failures"):
        algorithm.train()
    assert time.monotonic() - start < 60
    assert torch.equal(parameters_of(algorithm.team_policy), before)
    # The next update has new learners.
    algorithm.train()
    assert not torch.equal(parameters_of(algorithm.team_policy), before)
    algorithm.stop()

"""Compares the losses of OfflineBaselines with those of the papers' released code.

The released learners use this package's networks with the same weights and batch, in
double precision::

    git clone https://github.com/thu-rllab/CFCQL
    python tools/compare_offline.py cfcql CFCQL
    git clone https://github.com/YiqinYang/ICQ
    python tools/compare_offline.py icq ICQ
    git clone https://github.com/instadeepai/og-marl
    python tools/compare_offline.py og-marl og-marl

OG-MARL's QMIX+CQL needs TensorFlow. Only the lines of its loss are run, with PyTorch
functions in place of TensorFlow's. The batch has five episodes of three agents with
four actions; 60 % of the actions are available. The columns of the printed table are
the absolute difference of the losses and the largest absolute difference of the
gradients.
"""

from __future__ import annotations

import sys
import textwrap
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_risk.algorithms.offline_baselines import OfflineBaselinesConfig
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.losses.td import critic_loss
from rllib_risk.parts.mixers.base import MixerInputs
from rllib_risk.parts.penalties.sampled_joint import random_actions
from rllib_risk.parts.team import TeamNetwork, network_keys
from rllib_risk.parts.view import View

AGENTS, ACTIONS, STEPS, GAMMA = 3, 4, 6, 0.99
SIZES = TeamSizes(AGENTS, ACTIONS, 5, 6)
ENDED, CUT = (True,) * 5, (True, False, True, True, False)


def make_batch(terminated: Sequence[bool], *, available: float = 0.6) -> Batch:
    """Returns a batch of random episodes.

    All episodes have the same length, because the released codes handle padding
    differently.

    Args:
        terminated: Whether each episode ends; otherwise the time limit cuts it off.
        available: Probability that an action is available.
    """
    rng = np.random.default_rng(3)
    episodes = []
    for ends in terminated:
        mask = (rng.random((STEPS + 1, AGENTS, ACTIONS)) < available).astype(np.uint8)
        mask[..., 0] |= mask.sum(axis=-1) == 0
        chances = rng.random((STEPS, AGENTS, ACTIONS)) * mask[:-1]
        episodes.append(
            Episode(
                obs=rng.normal(size=(STEPS + 1, AGENTS, 5)).astype(np.float32),
                state=rng.normal(size=(STEPS + 1, 6)).astype(np.float32),
                action_mask=mask,
                actions=chances.argmax(axis=-1).astype(np.int16),
                rewards=rng.normal(size=STEPS).astype(np.float32),
                terminated=ends,
                risk_levels=np.ones((STEPS, AGENTS), np.float32),
            )
        )
    batch = Batch.of(collate(episodes), "cpu")
    for name in ("obs", "state", "rewards", "terminateds", "mask"):
        setattr(batch, name, getattr(batch, name).double())
    return batch


class Ours:
    """The parts of a preset, with random networks."""

    def __init__(self, preset: str, batch: Batch, **changes: Any) -> None:
        self.values = {
            key: field.default for key, field in OfflineBaselinesConfig.fields().items()
        }
        self.values |= OfflineBaselinesConfig.presets[preset]
        self.values |= {"recurrent": False, "hidden_size": 8, **changes}
        self.batch = batch
        self.network, self.target, self.other = map(self._network, range(3))
        self.learning = Learning.of(self.values)
        self.inputs = self.network.inputs(batch.obs, batch.actions, batch.previous)

    def _network(self, seed: int) -> TeamNetwork:
        torch.manual_seed(seed)
        network = TeamNetwork(SIZES, network_keys(self.values)).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, min(0.5, parameter.shape[-1] ** -0.5))
        return network

    def view(self) -> View:
        """Returns the view of the batch that the parts use."""
        return self.learning.view(
            self.network, self.target, self.batch, gamma=GAMMA, reward_scale=1.0
        )

    def utilities(self, network: TeamNetwork) -> Tensor:
        """Returns the utilities of all actions, ``[B, T + 1, N, A]``."""
        return network.atoms(network.unroll(self.inputs)).squeeze(-1)

    def policy(self, network: TeamNetwork) -> Tensor:
        """Returns the softmax of the utilities of available actions."""
        legal = self.batch.action_mask > 0
        return self.utilities(network).masked_fill(~legal, -1e10).softmax(dim=-1)

    def released_batch(self) -> dict[str, Any]:
        """Returns the batch in PyMARL's form, where every array has one more step."""
        b = self.batch
        return _Batch(
            reward=_longer(b.rewards),
            actions=_longer(b.actions.unsqueeze(-1)),
            terminated=_longer(b.terminateds),
            filled=_longer(b.mask, 1.0),
            avail_actions=b.action_mask.clone(),
            state=b.state,
            obs=b.obs,
            batch_size=len(b.obs),
            max_seq_length=STEPS + 1,
        )


class _Batch(dict[str, Any]):
    batch_size, max_seq_length = property(lambda s: s["batch_size"]), STEPS + 1


def _longer(values: Tensor, last: float = 0) -> Tensor:
    return torch.cat([values, torch.full_like(values[:, :1], last)], dim=1)


class Controller:
    """Replaces the released controllers: outputs of all agents, step by step."""

    def __init__(self, outputs: Any) -> None:
        self._make, self.agent = outputs, SimpleNamespace(train=lambda: None)

    def init_hidden(self, batch_size: int) -> None:
        """Begins an episode."""
        self._outputs = self._make()

    def forward(self, batch: Any, t: int) -> Tensor:
        """Returns the outputs at a step."""
        return self._outputs[:, t].clone()


def mixer_of(network: TeamNetwork) -> Any:
    """Returns our mixer as a function of utilities and state."""

    def mix(values: Tensor, state: Tensor) -> Tensor:
        return network.mixer(MixerInputs(values, state, values.long()))

    return mix


@contextmanager
def losses_noted() -> Iterator[list[float]]:
    """Context manager that records every loss on which ``backward`` is called."""
    noted: list[float] = []
    original = Tensor.backward

    def backward(self: Tensor, *arguments: Any, **keywords: Any) -> None:
        noted.append(self.item())
        original(self, *arguments, **keywords)

    Tensor.backward = backward  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        Tensor.backward = original  # type: ignore[method-assign]


def module_of(file: Path, **imported: dict[str, Any]) -> dict[str, Any]:
    """Runs a file of the released code with replaced imports.

    Args:
        file: The file.
        **imported: Contents of the modules that it imports; ``__`` stands for a dot.
    """
    for name, values in imported.items():
        dotted = name.replace("__", ".")
        for module in (dotted.partition(".")[0], dotted):
            sys.modules[module] = ModuleType(module)
        vars(sys.modules[dotted]).update(values)
    names: dict[str, Any] = {}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), names)
    return names


def row(
    title: str, mine: Tensor, theirs: float, gradients: Sequence[Any], of: Any
) -> None:
    """Prints one row of the table."""
    own = torch.autograd.grad(mine, of, retain_graph=True, allow_unused=True)
    largest = max(
        (a - b).abs().max().item()
        for a, b in zip(own, gradients, strict=True)
        if a is not None and b is not None
    )
    print(f"{title:44} {abs(mine.item() - theirs):9.1e} {largest:9.1e}")


def taken(parameters: Sequence[Tensor], scale: float = 1.0) -> list[Tensor | None]:
    """Returns the gradients that a released learner computed, and clears them."""
    found = [None if p.grad is None else p.grad / scale for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found


class NoOptimizer:
    """Optimizer that changes nothing, so that the gradients can be read."""

    def zero_grad(self) -> None:
        """Does nothing."""

    def step(self) -> None:
        """Does nothing."""


def learner_of(cls: type, **values: Any) -> Any:
    """Returns a released learner without its own networks."""
    learner = cls.__new__(cls)
    huge = {"grad_norm_clip": 1e9, "target_update_interval": 1e9}
    huge["learner_log_interval"] = 1e9
    arguments = SimpleNamespace(n_agents=AGENTS, gamma=GAMMA, **huge)
    vars(arguments).update(values.pop("arguments"))
    vars(learner).update(values, args=arguments, log_stats_t=0)
    return learner


def compare_cfcql(root: Path) -> None:
    """Compares the whole loss of CFCQL, with weights of agents and TD(lambda)."""
    source = root / "discrete/src"
    returns = module_of(source / "utils/rl_utils.py")
    module = module_of(
        source / "learners/cq_learner.py",
        components__episode_buffer={"EpisodeBatch": object},
        modules__mixers={},
        modules__mixers__nmix={"Mixer": object},
        modules__mixers__vdn={"VDNMixer": object},
        modules__mixers__qatten={"QattenMixer": object},
        utils__rl_utils=returns,
        utils__th_utils={"get_parameters_num": None},
    )
    ours = Ours("cfcql", make_batch(CUT), td_lambda=0.6)
    view, parameters = ours.view(), list(ours.network.parameters())
    view.dual = ours.learning.penalty.make_dual(ours.other)
    learner = learner_of(
        module["CQLearner"],
        arguments={
            "use_sarsa": False,
            "raw_cql": False,
            "td_lambda": 0.6,
            "global_cql_alpha": 5.0,
            "softmax_temp": 5.0,
            "device": "cpu",
        },
        mac=Controller(lambda: ours.utilities(ours.network)),
        target_mac=Controller(lambda: ours.utilities(ours.target)),
        behaviour_mac=Controller(lambda: ours.policy(ours.other)),
        mixer=mixer_of(ours.network),
        target_mixer=mixer_of(ours.target),
        use_per=False,
        need_train_behaviour=True,
        optimiser=NoOptimizer(),
        params=parameters,
        last_target_update_episode=0,
    )
    with losses_noted() as losses:
        learner.train(ours.released_batch(), 0, 0)
    loss = ours.learning.team_loss(view)
    row("CFCQL", loss, losses[0], taken(parameters), parameters)


def compare_icq(root: Path) -> None:
    """Compares the two updates of MAICQ."""
    source = root / "ICQ-MA/src"
    returns = module_of(source / "utils/rl_utils.py")
    module = module_of(
        source / "learners/offpg_learner.py",
        components__episode_buffer={"EpisodeBatch": object},
        modules__critics={},
        modules__critics__offpg={"OffPGCritic": object},
        modules__mixers={},
        modules__mixers__qmix={"QMixer": object},
        utils__offpg_utils={"build_target_q": None},
        utils__rl_utils=returns,
    )
    for terminated, title in ((ENDED, "all end"), (CUT, "two of five are cut off")):
        _compare_icq(module, terminated, title)


class _Critic:
    """Our critic and its mixer, with the interface of the released critic."""

    def __init__(self, ours: Ours, network: TeamNetwork) -> None:
        self._ours, self._critic = ours, network.joint_critic.values  # type: ignore[union-attr]
        self.k = self._critic.weights  # type: ignore[union-attr]
        self.mixer = SimpleNamespace(k=self.k, forward=self._critic.mix)  # type: ignore[union-attr]

    def _build_inputs(self, *_: Any) -> Tensor:
        batch = self._ours.batch
        return self._critic.inputs(batch.obs, batch.state, batch.actions)  # type: ignore[operator, union-attr]

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the values of all actions."""
        return self._critic(inputs)  # type: ignore[operator]


def _compare_icq(module: dict[str, Any], terminated: Any, title: str) -> None:
    ours = Ours("maicq", make_batch(terminated))
    view, network = ours.view(), ours.network
    agents = list(network.agents.parameters())  # type: ignore[attr-defined]
    values = list(network.joint_critic.parameters())  # type: ignore[union-attr]
    critic, target = _Critic(ours, network), _Critic(ours, ours.target)
    learner = learner_of(
        module["OffPGLearner"],
        arguments={"td_lambda": 0.75},  # 0.75 and a discount of 0.99 are hard-coded
        n_agents=AGENTS,
        n_actions=ACTIONS,
        mac=Controller(lambda: ours.policy(network)),
        critic=critic,
        target_critic=target,
        mixer=critic.mixer,
        target_mixer=target.mixer.forward,
        agent_params=agents,
        c_params=values,
        agent_optimiser=NoOptimizer(),
        critic_optimiser=NoOptimizer(),
        mixer_optimiser=NoOptimizer(),
        critic_training_steps=0,
        last_target_update_step=0,
    )
    with losses_noted() as losses:
        learner.train(ours.released_batch(), 0, None)
        row(
            "MAICQ, policy",
            ours.learning.loss.loss(view),
            losses[0],
            taken(agents),
            agents,
        )
    taken(values)
    with losses_noted() as losses:
        learner.train_critic(ours.released_batch(), log=defaultdict(list), t_env=0)
    # The released code makes one optimizer step per time index; NoOptimizer makes none.
    theirs, gradients = sum(losses) / STEPS, taken(values, STEPS)
    row(f"MAICQ, critic, {title}", critic_loss(view), theirs, gradients, values)


def lines_of(file: Path, first: str, after: str) -> Any:
    """Compiles lines of a released file.

    Args:
        file: The file.
        first: Beginning of the first line.
        after: Beginning of the line after the last one.
    """
    text = file.read_text("utf-8")
    begin = text.rindex("\n", 0, text.index(first)) + 1
    lines = textwrap.dedent(text[begin : text.index(after, begin)].rsplit("\n", 1)[0])
    return compile(lines, str(file), "exec")


def compare_og_marl(root: Path) -> None:
    """Compares the penalty of OG-MARL's QMIX+CQL, and the loss of its IQL+CQL."""
    systems = root / "og_marl/baselines"
    _compare_qmix_cql(systems / "tf2_systems/offline/qmix_cql.py")
    file = systems / "torch_systems/offline/iql_cql.py"
    for available, title in ((1.0, "all actions available"), (0.6, "60 % available")):
        _compare_iql_cql(file, available, f"IQL+CQL, {title}")


def _compare_qmix_cql(file: Path) -> None:
    ours = Ours("qmix_cql", make_batch(ENDED))
    view, parameters = ours.view(), list(ours.network.parameters())
    generator = torch.Generator().manual_seed(0)  # same seed as in a view
    drawn = random_actions(view.action_mask, 20, generator)
    mix, state = mixer_of(ours.network), ours.batch.state[:, :-1]
    utilities = ours.utilities(ours.network)[:, :-1]
    index = ours.batch.actions.unsqueeze(-1)
    tensorflow = SimpleNamespace(
        one_hot=lambda x, depth: torch.nn.functional.one_hot(x, depth),
        reduce_sum=lambda x, axis, keepdims: x.sum(axis, keepdim=keepdims),
        concat=lambda tensors, axis: torch.cat(tensors, axis),
        reduce_mean=torch.mean,
        reduce_logsumexp=lambda x, axis, keepdims: x.logsumexp(axis, keepdim=keepdims),
    )
    names = {
        "tf": tensorflow,
        "self": SimpleNamespace(num_ood_actions=20, mixer=mix),
        "qs_out": utilities,
        "env_states": state,
        "random_ood_actions": drawn.permute(2, 0, 1, 3),
        "chosen_action_qs": mix(utilities.gather(-1, index).squeeze(-1), state),
    }
    exec(lines_of(file, "all_mixed_ood_qs = []", "#### end"), names)
    theirs: Any = names["cql_loss"]
    gradients = torch.autograd.grad(theirs, parameters, allow_unused=True)
    mine = view.mean(ours.learning.penalty.penalties(view))
    row("QMIX+CQL, penalty", mine, theirs.item(), gradients, parameters)


def _compare_iql_cql(file: Path, available: float, title: str) -> None:
    ours = Ours("iql_cql", make_batch(ENDED, available=available))
    batch, parameters = ours.batch, list(ours.network.parameters())
    names: dict[str, Any] = {
        "torch": torch,
        "F": torch.nn.functional,
        "gather": lambda x, i, dim: x.gather(dim, i.unsqueeze(dim)).squeeze(dim),
        "self": SimpleNamespace(discount=GAMMA, device="cpu", cql_weight=3.0),
        "qs_out": ours.utilities(ours.network),
        "target_qs_out": ours.utilities(ours.target).detach(),
        "actions": _longer(batch.actions),
        "legal_actions": batch.action_mask > 0,
        "rewards": _longer(batch.rewards).expand(-1, -1, AGENTS),
        "terminals": _longer(batch.terminateds).expand(-1, -1, AGENTS),
    }
    exec(lines_of(file, "# Pick the Q-Values", "# Total loss"), names)
    # Half the squared error, as in OG-MARL's version for TensorFlow.
    theirs = names["td_loss"] / 2 + 3.0 * names["cql_loss"]
    gradients = torch.autograd.grad(theirs, parameters, allow_unused=True)
    mine = ours.learning.team_loss(ours.view())
    row(title, mine, theirs.item(), gradients, parameters)


CODES = {"cfcql": compare_cfcql, "icq": compare_icq, "og-marl": compare_og_marl}


def main() -> None:
    """Compares losses with one released code."""
    parser = ArgumentParser(
        description="Compare losses with those of a paper's released code."
    )
    parser.add_argument("code", choices=CODES, help="name of the released code")
    parser.add_argument("path", type=Path, help="checkout of its repository")
    given = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    print(f"{'':44} {'loss':>9} {'gradient':>9}")
    CODES[given.code](given.path.expanduser().resolve())


if __name__ == "__main__":
    main()

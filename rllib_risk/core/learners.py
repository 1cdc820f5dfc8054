"""Several processes that learn from one batch: key ``num_learners``.

Learner 0 is the trial's own process. It holds the replay, the optimizers and everything
that a checkpoint holds, and it alone makes gradient steps. The others are Ray actors
that keep nothing between updates. They get the current parameters and their rows of the
batch, and return a gradient. So a restored checkpoint, a target copy, a schedule or a
new phase needs no message of its own, and a lost learner loses no data. Sending
parameters and adding up gradients moves as many bytes as an all-reduce of gradients.
"""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import ray
import torch
import torch.distributed as dist
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from torch import Tensor

from rllib_risk.core import ray_internals
from rllib_risk.core.gradient import Share
from rllib_risk.core.learner_link import TIMEOUT_S, Link, LinkError
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.data.splitting import RowShare, split_batch

# Longest time in seconds for learners to start. Their resources may not be free.
START_TIMEOUT_S = 300.0
# Longest time in seconds for Ray to report why a learner broke the connection.
_CAUSE_S = 10.0


class LearnerLostError(RuntimeError):
    """A learner was lost during an update, so the update is not complete."""


@dataclass(frozen=True)
class Call:
    """One learner's part of an update.

    Attributes:
        method: Name of the policy's method to call.
        samples: The learner's rows of the batch.
        arguments: Further arguments of the method.
        rows: Positions and weight of these rows in the batch.
        update_index: See :class:`TeamPolicy`.
        wants_stats: See :class:`TeamPolicy`.
        env_steps: Env steps so far, on which schedules depend.
    """

    method: str
    samples: Mapping[str, Any]
    arguments: tuple[Any, ...]
    rows: RowShare
    update_index: int
    wants_stats: bool
    env_steps: int


class RemoteLearner:
    """A learner in a separate process."""

    def __init__(
        self, policy_class: type[TeamPolicy], spaces: tuple[Any, Any], config: Any
    ) -> None:
        """Builds the policy. Every update sends its parameters.

        Args:
            policy_class: Class of the policy.
            spaces: The team's observation and action space.
            config: The configuration as a dict.
        """
        self._policy = policy_class(*spaces, config)

    def address(self) -> str:
        """Returns the address at which other machines reach this one."""
        return ray_internals.node_address()

    def connect(self, host: str, port: int, rank: int, size: int, nccl: bool) -> None:
        """Connects to all learners, and waits for them.

        Args:
            host: Address of learner 0.
            port: Port of learner 0's store.
            rank: Number of this learner.
            size: Number of learners.
            nccl: Whether every learner has a GPU of its own.
        """
        limit = timedelta(seconds=START_TIMEOUT_S)
        store = dist.TCPStore(host, port, is_master=False, timeout=limit)
        device = _link_device(self._policy, nccl)
        self._link = Link(store, rank, size, self.address(), device)

    def learn(self, call: Call) -> dict[str, float]:
        """Contributes the gradients of its rows to an update of learner 0.

        Args:
            call: This learner's part of the update.

        Returns:
            Statistics of these rows to log.
        """
        policy = self._policy
        policy.update_index, policy.wants_stats = call.update_index, call.wants_stats
        policy.on_global_var_update({"timestep": call.env_steps})
        self._link.receive(list(state_of(policy)))
        # Arrays from Ray's store are read-only, and torch warns about that.
        samples = {key: array.copy() for key, array in call.samples.items()}
        return contribute(policy, replace(call, samples=samples), self._link)


def state_of(policy: TeamPolicy) -> Iterator[Tensor]:
    """Yields the tensors of a policy that an update reads and that change in a run.

    Args:
        policy: A policy.

    Yields:
        Parameters and buffers of all modules that a checkpoint holds.
    """
    for module in policy.modules().values():
        yield from module.parameters()
        yield from module.buffers()


def contribute(policy: TeamPolicy, call: Call, link: Link) -> dict[str, float]:
    policy.share = Share(call.rows, link.add_up, link.copy)
    try:
        learned = getattr(policy, call.method)(call.samples, *call.arguments)
    finally:
        policy.share = None
    return cast("dict[str, float]", learned)


def _link_device(policy: TeamPolicy, nccl: bool) -> torch.device:
    return torch.device(policy.device if nccl else "cpu")


def learner_bundle(config: AlgorithmConfig) -> dict[str, float]:
    """Resources that Ray reserves for each learner except the trial's own process.

    Args:
        config: The configuration.

    Returns:
        Amounts by resource. As in RLlib, "auto" is one CPU without a GPU, and no CPU
        with a GPU.
    """
    cpus, gpus = config.num_cpus_per_learner, config.num_gpus_per_learner
    if cpus == "auto":
        cpus = 0 if gpus else 1
    more = getattr(config, "custom_resources_per_learner", None) or {}
    return {"CPU": cpus, "GPU": gpus, **more}


class LearnerGroup:
    """The learners of a trial, as the trial's own process (learner 0) uses them.

    Attributes:
        seconds: Seconds of the last update by part: ``split`` the batch, ``send`` batch
            and parameters, and the ``rest``. ``wait`` is the part of the rest in which
            learner 0 waits for slower learners and for the sum of the gradients.
    """

    def __init__(self, policy: TeamPolicy, config: AlgorithmConfig) -> None:
        """Initializes the group without processes: evaluations alone need none.

        Args:
            policy: The policy that learns.
            config: The configuration.
        """
        self._policy = policy
        self._size: int = config.num_learners
        self._bundle = learner_bundle(config)
        self._nccl = config.num_gpus_per_learner >= 1
        self._learners: list[Any] = []
        self._link: Link | None = None
        self._pending: list[Any] = []
        self.seconds: dict[str, float] = {}

    def begin(self) -> None:
        """Starts the processes without waiting for them."""
        if self._learners:
            return
        more = {k: v for k, v in self._bundle.items() if k not in ("CPU", "GPU")}
        actor = ray.remote(RemoteLearner).options(
            num_cpus=self._bundle["CPU"], num_gpus=self._bundle["GPU"], resources=more
        )
        policy = self._policy
        config = dict(policy.config) | {"num_gpus": self._bundle["GPU"]}
        made = type(policy), (policy.observation_space, policy.action_space), config
        self._learners = [actor.remote(*made) for _ in range(self._size - 1)]

    def _connect(self) -> Link:
        self.begin()
        self._pending = [learner.address.remote() for learner in self._learners]
        try:
            ray.get(self._pending, timeout=START_TIMEOUT_S)
        except GetTimeoutError:
            raise RuntimeError(
                f"num_learners: {self._size - 1} learners beside the trial's own"
                f" process did not start within {START_TIMEOUT_S:g} s. Each needs"
                f" {self._bundle} of Ray's resources, and Ray has"
                f" {ray.available_resources()} left. Lower num_learners."
            ) from None
        limit = timedelta(seconds=START_TIMEOUT_S)
        address = ray_internals.node_address()
        store = dist.TCPStore(
            address, 0, is_master=True, wait_for_workers=False, timeout=limit
        )
        meeting = address, store.port
        self._pending = [
            learner.connect.remote(*meeting, rank, self._size, self._nccl)
            for rank, learner in enumerate(self._learners, start=1)
        ]
        device = _link_device(self._policy, self._nccl)
        link = Link(store, 0, self._size, address, device)
        ray.get(self._pending, timeout=START_TIMEOUT_S)
        link.watch = self._watch
        return link

    def learn(
        self, method: str, samples: Mapping[str, Any], *args: Any, env_steps: int
    ) -> dict[str, float]:
        """Learns from a batch on all learners.

        Args:
            method: Name of the policy's method.
            samples: The batch.
            *args: Further arguments of the method.
            env_steps: Env steps so far.

        Returns:
            Statistics of the batch to log.

        Raises:
            LearnerLostError: If a learner was lost. No gradient step uses only a part
                of a batch.
            RuntimeError: If the learners do not start in time.
        """
        with self._failing_cleanly():
            if self._link is None:
                self._link = self._connect()
            return self._learn(self._link, method, samples, args, env_steps)

    def _learn(
        self,
        link: Link,
        method: str,
        samples: Mapping[str, Any],
        args: tuple[Any, ...],
        env_steps: int,
    ) -> dict[str, float]:
        policy, start = self._policy, time.perf_counter()
        calls = [
            Call(
                method,
                part,
                args,
                rows,
                policy.update_index,
                policy.wants_stats,
                env_steps,
            )
            for part, rows in split_batch(samples, self._size)
        ]
        split = time.perf_counter()
        self._pending = [
            learner.learn.remote(call)
            for learner, call in zip(self._learners, calls[1:], strict=True)
        ]
        link.send(state_of(policy))
        sent, link.waited_s = time.perf_counter(), 0.0
        logged = [contribute(policy, calls[0], link)]
        logged += ray.get(self._pending, timeout=TIMEOUT_S)
        done = time.perf_counter()
        self.seconds = {"split": split - start, "send": sent - split}
        self.seconds |= {"rest": done - sent, "wait": link.waited_s}
        return merged(logged, [call.rows.weight for call in calls])

    def _watch(self) -> None:
        """Raises the error of a learner that has failed."""
        ray.get(self._answers())

    def _answers(self) -> list[Any]:
        """Returns the calls that have ended, with a result or with an error."""
        number = len(self._pending)
        ready: list[Any] = ray.wait(self._pending, num_returns=number, timeout=0)[0]
        return ready

    @contextlib.contextmanager
    def _failing_cleanly(self) -> Iterator[None]:
        """Ends all learners after any failure, and raises an error with its cause.

        A gradient step waits for all gradients, so no parameter gets half a step. The
        next update starts new learners.
        """
        try:
            yield
        except (RayError, LinkError) as error:
            cause = self._cause(error)
            self.stop()
            if isinstance(cause, RayTaskError) and not isinstance(cause, LinkError):
                raise cause.cause from None
            text = " ".join(str(cause).split()).partition(". ")[0]
            raise LearnerLostError(
                "num_learners: a learner was lost within update"
                f" {self._policy.update_index}, which is not complete: {text}. With"
                " max_failures above 0 the trial goes on from its last checkpoint."
            ) from error
        except BaseException:
            self.stop()
            raise

    def _cause(self, error: Exception) -> Exception:
        """Waits for the cause of a broken connection: a dead learner, or its error."""
        end = time.monotonic() + _CAUSE_S
        while isinstance(error, LinkError) and time.monotonic() < end:
            for answer in self._answers():
                try:
                    ray.get(answer)
                except RayError as cause:
                    # A LinkError follows from the failure of another learner.
                    if not isinstance(cause, LinkError):
                        return cause
            time.sleep(0.1)
        return error

    def stop(self) -> None:
        """Ends the processes."""
        self._link = None
        for learner in self._learners:
            ray.kill(learner)
        self._learners, self._pending = [], []


def merged(
    logged: Sequence[Mapping[str, float]], weights: Sequence[float]
) -> dict[str, float]:
    """Combines the statistics of all learners into those of the batch.

    Args:
        logged: Means over the rows of each learner, learner 0 first.
        weights: Each learner's share of the steps of the batch.

    Returns:
        Means over the batch. A number that is NaN in all other learners, such as the
        norm of the gradient, is the number of learner 0.
    """
    numbers = {}
    for key, first in logged[0].items():
        of_all = [own[key] for own in logged]
        if all(math.isnan(number) for number in of_all[1:]):
            numbers[key] = first
        else:
            numbers[key] = math.fsum(map(operator.mul, weights, of_all))
    return numbers

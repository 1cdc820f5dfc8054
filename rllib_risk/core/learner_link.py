"""Sums and copies of tensors between learners, by torch.distributed.

The process group is separate from torch's global one. Several algorithms may learn in
one process, and a program may use the global group for something else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Seconds after which a learner that does not answer counts as lost.
TIMEOUT_S = 300.0
# Seconds between checks for the result, and between checks of the other learners.
_POLL_S, _LOOK_S = 2e-4, 0.5


class LinkError(RuntimeError):
    """A learner does not answer."""


class Link:
    """Connection of one learner to the others; learner 0 makes the gradient steps.

    Attributes:
        watch: Called every half second while this learner waits. It raises an error if
            another learner has failed.
        waited_s: Seconds of waiting so far.
    """

    def __init__(
        self, store: Any, rank: int, size: int, address: str, device: torch.device
    ) -> None:
        """Waits until all learners are connected.

        Args:
            store: torch.distributed's store, which learner 0 serves.
            rank: Number of this learner.
            size: Number of learners.
            address: Address at which the other learners reach this machine.
            device: Device from which tensors are sent: a GPU that no other learner uses
                (NCCL), or the CPU (gloo).
        """
        self._rank, self._device = rank, device
        self._group: Any
        timeout = timedelta(seconds=TIMEOUT_S)
        if device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = timeout
            self._group = dist.ProcessGroupNCCL(store, rank, size, options)
        else:
            options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
            options._timeout = timeout
            # The host name may resolve to the loopback address.
            options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
            self._group = dist.ProcessGroupGloo(store, rank, size, options)
        self._sending: list[tuple[Any, Tensor]] = []
        self.watch: Callable[[], None] = lambda: None
        self.waited_s = 0.0

    def send(self, tensors: Iterable[Tensor]) -> None:
        """Sends tensors to the other learners, without waiting.

        The other learners call :meth:`receive`.

        Args:
            tensors: Tensors. Later changes do not affect the values that are sent.
        """
        for flat in self._flat(tensors):
            self._sending.append((self._group.broadcast(flat, 0), flat))

    def receive(self, tensors: Sequence[Tensor]) -> None:
        """Receives the tensors that learner 0 sends.

        Args:
            tensors: Tensors with the same shapes, types and order; changed in place.
        """
        flats = self._flat(tensors)
        for flat in flats:
            self._wait(self._group.broadcast(flat, 0))
        _spread(flats, tensors)

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Copies tensors from learner 0 to the other learners.

        Args:
            tensors: Tensors; changed in place in the other learners.
        """
        if self._rank == 0:
            self.send(tensors)
        else:
            self.receive(tensors)

    def add_up(self, tensors: Sequence[Tensor]) -> bool:
        """Adds up tensors over all learners; learner 0 gets the sums.

        Args:
            tensors: Tensors; changed in place in learner 0.

        Returns:
            Whether this is learner 0.
        """
        for work, _ in self._sending:
            self._wait(work)
        self._sending.clear()
        options = dist.ReduceOptions()
        options.rootRank = 0
        flats = self._flat(tensors)
        for flat in flats:
            self._wait(self._group.reduce([flat], options))
        if self._rank == 0:
            _spread(flats, tensors)
        return self._rank == 0

    def _flat(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Returns one vector per type, so that there are few messages."""
        return [torch.cat(t).to(self._device) for t in _by_type(tensors).values()]

    def _wait(self, work: Any) -> None:
        """Waits for an operation; raises an error if another learner has failed.

        Raises:
            LinkError: If the connection breaks, or after :data:`TIMEOUT_S`.
        """
        start = looked = time.monotonic()
        while not work.is_completed():
            time.sleep(_POLL_S)
            now = time.monotonic()
            if now - looked > _LOOK_S:
                self.watch()
                looked = now
            if now - start > TIMEOUT_S:
                raise LinkError(f"no answer for {TIMEOUT_S:g} s")
        try:
            work.wait()
        except RuntimeError as error:
            raise LinkError(str(error).partition("\n")[0]) from error
        self.waited_s += time.monotonic() - start


def _by_type(tensors: Iterable[Tensor]) -> dict[torch.dtype, list[Tensor]]:
    """Returns tensors as vectors by type, in the given order."""
    found: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor.detach().reshape(-1))
    return found


def _spread(flats: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copies the vectors of :meth:`Link._flat` back into the tensors."""
    with torch.no_grad():
        for flat, parts in zip(flats, _by_type(tensors).values(), strict=True):
            pieces = flat.split([part.numel() for part in parts])
            for part, piece in zip(parts, pieces, strict=True):
                part.copy_(piece)

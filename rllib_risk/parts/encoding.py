"""The encoding part: how the online and the target network encode a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.passes import EncodedBatch, encode
from rllib_risk.parts.team import TeamNetwork


@dataclass(frozen=True)
class PaddingOptions:
    """The key for padding before the first step of an episode."""

    window_padding: Literal["none", "zeros"] = option(
        "none",
        "Padding before an episode's first step, in burn_in and in acting_window."
        " none: no padding, so windows are shorter there. zeros: zero observations and"
        " action 0, as in DrIGM's code.",
    )


class Encoding(Part):
    """How the networks encode a batch. It is a part of every composition."""

    @dataclass(frozen=True)
    class Options(PaddingOptions):
        acting_window: int | None = option(
            None,
            "Number of last steps to act on, from a zero hidden state; null: the whole"
            " episode so far.",
            low=1,
            unit="steps",
        )
        target_window: Literal["carried", "shifted"] = option(
            "carried",
            "Step at which the hidden state of the next value starts from zero."
            " carried: the first step of the sequence, as for the current value."
            " shifted: one step later, so that both values see the same number of"
            " steps, as in DrIGM's code.",
        )
        double_q: bool = option(
            True,
            "Whether the online network chooses the next greedy action (double"
            " Q-learning); false: the target network.",
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        sequences = config.sequence_length is not None
        if config.acting_window is not None and not config.recurrent:
            yield (
                "acting_window: limits a hidden state, and a feed-forward network has"
                " none. Set recurrent: true, or acting_window: null."
            )
        shifted = config.target_window != "carried"
        if shifted and not (sequences and config.recurrent):
            yield (
                "target_window: 'shifted' moves the step at which a sequence's hidden"
                " state starts. Set sequence_length and recurrent: true, or"
                " target_window: carried."
            )
        windows = sequences and config.acting_window is not None
        if config.window_padding != "none" and not windows:
            yield (
                "window_padding: 'zeros' pads windows in training and in acting. Set"
                " sequence_length and acting_window, or window_padding: none."
            )

    def encode(
        self,
        network: TeamNetwork,
        target_network: TeamNetwork,
        batch: Batch,
        *,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
    ) -> EncodedBatch:
        """Runs both networks over a batch; see :func:`encode`.

        Args:
            network: The online network.
            target_network: The target network.
            batch: The batch.
            burn_in: Number of burn-in steps at the start of each row.
            generator: Generator of the fractions of sampled quantiles.

        Returns:
            The encoded batch, which all losses share.
        """
        shifted = self.options.target_window == "shifted"
        return encode(
            network,
            target_network,
            batch,
            double_q=self.options.double_q,
            window=burn_in + 1 if shifted else None,
            generator=generator,
        )

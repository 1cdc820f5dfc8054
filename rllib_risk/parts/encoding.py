"""How both networks go over a batch: the keys, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.passes import Pass, encode
from rllib_risk.parts.team import TeamNetwork


@dataclass(frozen=True)
class PaddingOptions:
    """What stands before an episode, where the replay and acting look there."""

    window_padding: Literal["none", "zeros"] = option(
        "none",
        "What stands before an episode's first step, in burn_in and in acting_window:"
        " nothing, so that windows are shorter there (none), or zero observations and"
        " action 0 (zeros; DrIGM's code).",
    )


class Encoding(Part):
    """How the networks go through a batch; in every composition."""

    @dataclass(frozen=True)
    class Options(PaddingOptions):
        acting_window: int | None = option(
            None,
            "Act on this number of last steps alone, with a memory that begins at 0;"
            " null: on the whole episode so far.",
            low=1,
            unit="steps",
        )
        target_window: Literal["carried", "shifted"] = option(
            "carried",
            "Step at which the memory behind the next value begins: the first of the"
            " sequence, as for the present value (carried), or one later, so that both"
            " look through the same number of steps (shifted; DrIGM's code).",
        )
        double_q: bool = option(True, "Online network picks the next action.")

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        stretches = config.sequence_length is not None
        if config.acting_window is not None and not config.recurrent:
            yield (
                "acting_window: cuts a memory; set recurrent: true, or acting_window:"
                " null."
            )
        shifted = config.target_window != "carried"
        if shifted and not (stretches and config.recurrent):
            yield (
                "target_window: 'shifted' moves the first step of a sequence's memory;"
                " set sequence_length and recurrent: true, or target_window: carried."
            )
        windows = stretches and config.acting_window is not None
        if config.window_padding != "none" and not windows:
            yield (
                "window_padding: 'zeros' fills windows in training and in acting; set"
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
    ) -> Pass:
        """Runs both networks over a batch; see :func:`encode`.

        Args:
            network: The online network.
            target_network: The target network.
            batch: The batch.
            burn_in: Steps in front that fill a memory.
            generator: Source of the fractions of sampled quantiles.

        Returns:
            What the losses share.
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

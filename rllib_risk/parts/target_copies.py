"""Updates of the target network from the online network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.slots import VALUE_PARTS


class TargetCopies(Part):
    """Hard copies after a number of episodes, or a Polyak average in every update."""

    @dataclass(frozen=True)
    class Options:
        target_update_interval_episodes: int = option(
            200,
            "Number of episodes between hard copies to the target network.",
            low=1,
            unit="episodes",
        )
        target_update_tau: float | None = option(
            None,
            "Polyak rate of the target network per update; null: hard copies. 1: no"
            " target network; the online network computes the targets, in one pass.",
            low=0.0,
            low_open=True,
            high=1.0,
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        loss = VALUE_PARTS.part("loss", config)
        offline = config.dataset is not None
        if offline and loss.uses_targets and config.target_update_tau is None:
            yield (
                "target_update_interval_episodes: counts sampled episodes, and with a"
                " dataset no episodes are sampled. Set target_update_tau."
            )

    @property
    def online(self) -> bool:
        """Whether the online network computes the targets.

        A target network that is copied after every update has the same parameters, but
        costs a second pass.
        """
        return self.options.target_update_tau == 1.0

    def rate(self, episodes: int) -> float | None:
        """Returns the Polyak rate of the target network after an update.

        Args:
            episodes: Episodes since the last hard copy.

        Returns:
            The Polyak rate. 1: a hard copy. None: no change.
        """
        if self.options.target_update_tau is not None:
            return self.options.target_update_tau
        return 1.0 if episodes >= self.options.target_update_interval_episodes else None

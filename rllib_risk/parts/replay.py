"""Where learners draw their batches from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.config.options import option
from rllib_risk.data.replay import EpisodeReplay, StoreOptions, Stretch
from rllib_risk.parts.base import Part
from rllib_risk.parts.encoding import PaddingOptions
from rllib_risk.parts.view import View


class Replay(EpisodeReplay, Part):
    """Whole episodes or stretches of some, each episode or step as likely as another.

    A replay of your own overrides :meth:`draw`, and :meth:`learned` if it matters what
    the learner found out. It draws places with :meth:`next_rng`, so that a run repeats,
    and gives what stands there: ``collate(self.at(places))`` or :meth:`stretches`. What
    it remembers beside the episodes belongs into :meth:`state_arrays` and
    :meth:`load_arrays`, which a checkpoint holds.
    """

    @dataclass(frozen=True)
    class Options(PaddingOptions, StoreOptions):
        sequence_length: int | None = option(
            None,
            "Learn from stretches of this length, drawn from all steps held; null:"
            " from whole episodes. batch_size_episodes is then their number.",
            low=1,
            unit="steps",
        )
        burn_in: int = option(
            0,
            "Steps before a stretch that fill the memory, from zeros, and are not"
            " learned from.",
            low=0,
            unit="steps",
        )

    options: Any

    def __init__(self, seed: int, options: Any = None) -> None:
        """Initializes an empty replay.

        Args:
            seed: Of the draws.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        Part.__init__(self, options)
        o = self.options
        super().__init__(
            o.buffer_size_episodes,
            seed,
            compact=o.compact_replay,
            stretch=stretch_of(o),
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.burn_in > 0 and config.sequence_length is None:
            yield "burn_in: comes before a stretch of an episode; set sequence_length."
        if config.burn_in > 0 and not config.recurrent:
            yield "burn_in: fills a memory; set recurrent: true, or burn_in: 0."
        if config.dataset is not None and ":" in config.replay:
            yield (
                f"replay: {config.replay!r} keeps what is sampled, and a dataset is"
                " drawn from as it is; leave out replay, or dataset."
            )

    def learned(self, samples: SampleBatch, view: View) -> None:
        """What the learner found out about a batch, before its step.

        Args:
            samples: From :meth:`draw`; it may hold more than a learner reads.
            view: The same batch, with :attr:`View.errors` and all else.
        """


def stretch_of(keys: Any) -> Stretch | None:
    """What a replay with these keys draws; None: whole episodes.

    Args:
        keys: :class:`Replay.Options`, or a configuration.
    """
    if keys.sequence_length is None:
        return None
    padded = keys.window_padding == "zeros"
    return Stretch(keys.sequence_length, keys.burn_in, padded)

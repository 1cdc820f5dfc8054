"""The replay part, from which learners draw batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.config.options import option
from rllib_risk.data.replay import EpisodeReplay, SequenceSettings, StoreOptions
from rllib_risk.parts.base import Part
from rllib_risk.parts.encoding import PaddingOptions
from rllib_risk.parts.view import View


class Replay(EpisodeReplay, Part):
    """Uniform replay of whole episodes or of sequences.

    A custom replay overrides :meth:`draw`. It also overrides :meth:`learned` if it uses
    results of the learner, such as TD errors. It draws indices with :meth:`next_rng`,
    so that runs are reproducible. It returns ``collate(self.at(indices))`` or
    :meth:`sequences`. State in addition to the episodes belongs into
    :meth:`state_arrays` and :meth:`load_arrays`, which checkpoints store.
    """

    @dataclass(frozen=True)
    class Options(PaddingOptions, StoreOptions):
        sequence_length: int | None = option(
            None,
            "Length of the sequences that batches contain, drawn uniformly from all"
            " stored steps; null: batches contain whole episodes. batch_size_episodes"
            " is then the number of sequences.",
            low=1,
            unit="steps",
        )
        burn_in: int = option(
            0,
            "Number of steps before a sequence that compute its hidden state from"
            " zeros. The loss does not use them.",
            low=0,
            unit="steps",
        )

    options: Any

    def __init__(self, seed: int, options: Any = None) -> None:
        """Initializes an empty replay.

        Args:
            seed: Seed of the draws.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        Part.__init__(self, options)
        o = self.options
        super().__init__(
            o.buffer_size_episodes,
            seed,
            compact=o.compact_replay,
            sequences=sequence_settings(o),
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.burn_in > 0 and config.sequence_length is None:
            yield "burn_in: needs sequences of steps. Set sequence_length."
        if config.burn_in > 0 and not config.recurrent:
            yield (
                "burn_in: computes a hidden state, and a feed-forward network has none."
                " Set recurrent: true, or burn_in: 0."
            )
        # The default is not a choice, and any other replay would be ignored.
        if config.dataset is not None and cls is not Replay:
            yield (
                f"replay: {config.replay!r} stores sampled episodes, but with a dataset"
                " batches come from the dataset. Leave out replay, or dataset."
            )

    @classmethod
    def stored_episodes(cls, config: Any) -> int:
        """Returns the largest number of episodes that the replay holds.

        Args:
            config: A configuration.
        """
        return int(config.buffer_size_episodes)

    def learned(self, samples: SampleBatch, view: View) -> None:
        """Receives the learner's results for a batch, before the gradient step.

        Args:
            samples: Batch from :meth:`draw`; it may contain more than the learner uses.
            view: View of the same batch, with :attr:`View.errors` and more.
        """


def sequence_settings(keys: Any) -> SequenceSettings | None:
    """Returns the settings of sequences, or None if the replay draws whole episodes.

    Args:
        keys: :class:`Replay.Options`, or a configuration.
    """
    if keys.sequence_length is None:
        return None
    padded = keys.window_padding == "zeros"
    return SequenceSettings(keys.sequence_length, keys.burn_in, padded)

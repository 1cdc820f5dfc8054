"""Batches that are split among learners."""

import numpy as np
import pytest

from rllib_risk.data.splitting import split_batch


def batch(lengths, longest=6, begins=0):
    """A batch whose values are 100 times the row plus the step."""
    rows = len(lengths)
    mask = np.zeros((rows, longest), np.float32)
    for row, length in enumerate(lengths):
        mask[row, begins : begins + length] = 1.0
    of_states = 100 * np.arange(rows)[:, None] + np.arange(longest + 1)
    return {
        "obs": of_states,
        "actions": of_states[:, :-1],
        "mask": mask,
        "first": np.arange(rows),
        "seq_lens": np.array(0),
    }


def test_the_longest_rows_go_first_to_the_emptiest_part():
    # 6 goes to the first part, 5 and 4 to the second (9), 3 to the first (9).
    (first, of_first), (second, of_second) = split_batch(batch([6, 3, 5, 4]), 2)
    assert (of_first.rows.tolist(), of_second.rows.tolist()) == ([0, 1], [2, 3])
    assert (of_first.weight, of_second.weight) == (0.5, 0.5)
    assert of_first.num_rows == of_second.num_rows == 4
    # The second part's longest row has 5 of 6 steps; states have one more.
    assert (of_first.steps_cut, of_second.steps_cut) == (0, 1)
    assert second["actions"].tolist() == [
        [200, 201, 202, 203, 204],
        [300, 301, 302, 303, 304],
    ]
    assert second["obs"].shape == (2, 6) and first["obs"].shape == (2, 7)
    assert second["first"].tolist() == [2, 3]
    assert "seq_lens" not in second


def test_every_row_is_in_one_part_and_the_weights_add_up():
    lengths = np.random.default_rng(0).integers(1, 50, size=33)
    parts = split_batch(batch(lengths, longest=50), 4)
    rows = np.concatenate([share.rows for _, share in parts])
    assert sorted(rows) == list(range(33))
    assert sum(share.weight for _, share in parts) == pytest.approx(1.0, abs=1e-12)
    for arrays, share in parts:
        assert share.weight == pytest.approx(arrays["mask"].sum() / lengths.sum())
        # No part differs from the mean by as much as the longest row.
        assert abs(share.weight - 0.25) < 50 / lengths.sum()


def test_steps_that_only_fill_a_memory_do_not_count():
    # Two burn-in steps precede the 1 and 3 learned steps of the rows.
    parts = split_batch(batch([1, 3], begins=2), 2)
    assert [share.weight for _, share in parts] == [0.75, 0.25]
    assert [arrays["mask"].shape[1] for arrays, _ in parts] == [5, 3]


def test_part_of_a_batch_is_found_among_a_learners_rows():
    _, share = split_batch(batch([6, 3, 5, 4]), 2)[0]  # rows 0 and 1
    own, weight = share.among(np.array([3, 1]))
    assert (own.tolist(), weight) == ([1], 3 / 7)
    own, weight = share.among(np.array([2, 3]))
    assert (own.tolist(), weight) == ([], 0.0)


def test_fewer_rows_than_learners_are_refused():
    with pytest.raises(ValueError, match=r"2 episodes .* 3 learners.*num_learners"):
        split_batch(batch([1, 2]), 3)

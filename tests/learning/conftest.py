"""Fixtures of the tests of learning."""

import pytest

from rllib_risk.core import rounds


@pytest.fixture(scope="module")
def one_thread():
    """Limits torch to one thread: for small tensors more only wait on a busy CPU."""
    with rounds.one_thread():
        yield

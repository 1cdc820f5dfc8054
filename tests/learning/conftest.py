"""What the tests of learning share."""

import pytest

from rllib_risk.core import rounds


@pytest.fixture(scope="module")
def one_thread():
    """Tensors this small gain nothing from threads, and wait for them on a busy CPU."""
    with rounds.one_thread():
        yield

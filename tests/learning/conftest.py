"""What the tests of learning share."""

import pytest

from rllib_risk.core import episode_loop


@pytest.fixture(scope="module")
def one_thread():
    """Tensors this small gain nothing from threads, and wait for them on a busy CPU."""
    with episode_loop.one_thread():
        yield

"""Results of several runs."""

import pytest
from test_results import write_trial


@pytest.fixture
def results(tmp_path):
    """Three seeds of ``rmix``, two of them solved (-7), and one run of ``qmix``."""
    write_trial(tmp_path / "rmix" / "t0", [(10, -50.0), (20, -7.0)], {"seed": 0})
    write_trial(
        tmp_path / "rmix" / "t1",
        [(10, -60.0), (20, -9.0), (30, -8.0), (40, -7.0)],
        {"seed": 1},
    )
    write_trial(tmp_path / "rmix" / "t2", [(10, -90.0), (40, -30.0)], {"seed": 2})
    write_trial(tmp_path / "qmix" / "t0", [(10, -200.0), (40, -100.0)], {"seed": 0})
    return tmp_path

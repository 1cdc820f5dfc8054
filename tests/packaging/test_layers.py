"""`pytest --fast` skips tests that start Ray, train or start Python, and no others."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from layers import MAX_STEPS, FastLayer

LAYER = FastLayer()


def steps(number):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for _ in range(number):
        optimizer.step()


def start_ray():
    import ray

    ray.init("local", num_cpus=1)


def put_with_ray():
    import ray

    ray.put(1)  # starts Ray by itself


def build_algorithm():
    from rllib_risk.algorithms import config_class

    config_class("VDN")().environment("two_step").build_algo()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (start_ray, "starts Ray"),
        (put_with_ray, "starts Ray"),
        (build_algorithm, "builds an algorithm"),
        (lambda: steps(MAX_STEPS + 1), "trains"),
        (lambda: subprocess.run([sys.executable, "-c", ""]), "process of Python"),
        (lambda: subprocess.run(["rllib", "--help"]), "process of Python"),
    ],
)
def test_what_is_slow_leaves_the_layer(action, reason):
    with LAYER.limits(), pytest.raises(pytest.skip.Exception, match=reason):
        action()


def test_what_is_fast_stays():
    with LAYER.limits():
        for _ in range(2):
            steps(MAX_STEPS // 2)
        subprocess.run(["true"], check=True)
    # A new test begins at zero, and there is no limit outside of tests.
    with LAYER.limits():
        steps(MAX_STEPS)
    steps(MAX_STEPS + 1)


def test_the_option_skips_with_the_reason():
    test = Path(__file__).with_name("test_import_rules.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fast", "-k", "import_is_light", str(test)],
        cwd=test.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it starts a process of Python" in done.stdout
    assert "passed" not in done.stdout

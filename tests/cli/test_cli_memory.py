"""The memory of replays, which a command checks before it starts anything."""

import pytest

from rllib_risk.cli import memory
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.memory import Trials, check_memory
from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.preflight import preflight
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import parse_yaml

TEXT = """\
run:
  run: VDN
  env: two_step
  stop: {{training_iteration: 1}}
  {more}
  config:
    buffer_size_episodes: {size}
    seed: {seed}
"""


def trials(size: str = "100_000", seed: str = "1", more: str = "", seeds: int = 1):
    text = TEXT.format(size=size, seed=seed, more=more)
    (spec,) = parse_document(parse_yaml(text, "f.yaml"), RLlibCatalog())
    return Trials(spec, preflight(spec).replays, seeds)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A machine with 100 MB and 8 CPUs; a replay of TEXT takes 74 MB."""
    size = {"room": 10**8, "cpus": 8.0}
    monkeypatch.setattr(
        memory, "_machine", lambda options: (size["room"], size["cpus"], "this machine")
    )
    return size


def test_the_bound_is_part_of_the_first_lines(machine: dict) -> None:
    line = check_memory([trials()], RayOptions())
    assert line == "Replay: up to 74 MB (100,000 episodes of at most 2 steps)"
    # PPO has no replay.
    assert check_memory([Trials(trials().spec, ())], RayOptions()) == ""


def test_what_does_not_fit_is_refused_with_the_line_of_the_key(machine: dict) -> None:
    message = r"^f\.yaml:7: buffer_size_episodes: the replay can take up to 585 MB .*"
    with pytest.raises(ConfigError, match=message) as error:
        check_memory([trials("1_000_000")], RayOptions())
    # The suggested size fits.
    size = str(error.value).rpartition("buffer_size_episodes: ")[2].partition(",")[0]
    assert check_memory([trials(size.rstrip("."))], RayOptions())


@pytest.mark.parametrize(
    ("options", "cpus", "fits"),
    [
        ({"seed": "{grid_search: [1, 2]}"}, 8, False),
        ({"seeds": 2}, 8, False),  # as in a comparison
        ({"more": "num_samples: 2"}, 8, False),
        # Trials that run one after the other need the memory of one.
        ({"seed": "{grid_search: [1, 2]}"}, 1, True),
        ({"more": "{num_samples: 2, max_concurrent_trials: 1}"}, 8, True),
        # Two trials of different sizes at the same time.
        ({"size": "{grid_search: [100_000, 1000]}"}, 8, True),
    ],
)
def test_trials_at_the_same_time_share_the_memory(
    machine: dict, options: dict, cpus: int, fits: bool
) -> None:
    machine["cpus"] = cpus
    more = str(options.get("more", ""))
    if more.startswith("{"):  # several keys
        options = options | {"more": more.strip("{}").replace(", ", "\n  ")}
    planned = trials(**options)
    if fits:
        assert check_memory([planned], RayOptions()).startswith("Replay: up to 74 MB")
        return
    message = "147 MB in 2 trials at the same time, and this machine has 100 MB"
    with pytest.raises(ConfigError, match=message):
        check_memory([planned], RayOptions())

"""What experiments inherit: ``shared:``, ``extends:``, anchors and ``without:``."""

from pathlib import Path
from typing import Any

import pytest
from test_config_experiments import FakeCatalog

from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.loading import parse_document, read_training_file
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import Domain

BASE = """\
shared:
  env: known
  stop: {training_iteration: 5, time_total_s: 60}
  config: {lr: 0.5, env_config: {width: 9, noise: 0.1}}
one: {run: ALGO, imports: [json]}
two:
  algorithm: ALGO
  checkpoint_config: {checkpoint_frequency: 3}
  config: {num_atoms: 2}
"""


def load(folder: Path, text: str) -> dict[str, ExperimentSpec]:
    """The experiments of ``f.yaml`` beside ``base.yaml``."""
    (folder / "base.yaml").write_text(BASE)
    (folder / "f.yaml").write_text(text)
    document = read_training_file(folder / "f.yaml")
    return {spec.name: spec for spec in parse_document(document, FakeCatalog())}


def places(folder: Path, spec: ExperimentSpec, *keys: tuple[Any, ...]) -> list[str]:
    """The places of an experiment's values, without the folder."""
    document = spec.document
    assert document is not None
    found = [document.where(spec.name, *key) for key in keys]
    return [place.replace(f"{folder}/", "") for place in found]


def test_all_experiments_take_over_what_is_shared(tmp_path: Path) -> None:
    specs = load(tmp_path, BASE + "three: {run: ALGO, config: {lr: 0.25}}\n")
    assert list(specs) == ["one", "two", "three"]
    two, three = specs["two"], specs["three"]
    env_config = {"width": 9, "noise": 0.1}
    assert two.config == {"lr": 0.5, "env_config": env_config, "num_atoms": 2}
    assert three.config == {"lr": 0.25, "env_config": env_config}
    for spec in specs.values():
        assert spec.env == "known"
        assert spec.stop == {"training_iteration": 5, "time_total_s": 60}
    keys = (("config", "lr"), ("config", "env_config", "noise"), ("run",))
    assert places(tmp_path, three, *keys) == ["f.yaml:10", "f.yaml:4", "f.yaml:10"]


def test_mappings_are_merged_and_all_else_is_replaced(tmp_path: Path) -> None:
    text = (
        "shared:\n"
        "  run: ALGO\n  env: known\n"
        "  stop: {training_iteration: 5}\n"
        "  config:\n"
        "    lr: {grid_search: [0.1, 0.2]}\n"
        "    model: {fcnet: 3}\n"
        "    env_config: {grid_search: [{width: 2}, {width: 3}]}\n"
        "x:\n"
        "  stop:\n"
        "  config: {lr: {choice: [0.3]}, model: {}, env_config: {noise: 1}}\n"
        "y:\n"
    )
    specs = load(tmp_path, text)
    # A search space is one value, however it is written.
    assert specs["x"].config["lr"] == Domain("choice", (0.3,))
    assert specs["x"].config["env_config"] == {"noise": 1.0}
    assert specs["x"].config["model"] == {"fcnet": 3}
    assert specs["x"].stop == {"training_iteration": 5}
    assert specs["y"].config["lr"] == Domain("grid_search", (0.1, 0.2))


def test_an_experiment_of_another_file_is_extended(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "middle.yaml").write_text(
        "two:\n  extends: ../base.yaml\n  stop: {time_total_s: 7}\n"
    )
    text = (
        "shared: {stop: {training_iteration: 1}, imports: [csv]}\n"
        "two:\n  extends: deeper/middle.yaml\n  config: {num_atoms: 4}\n"
        "any:\n  extends: base.yaml:one\n"
    )
    specs = load(tmp_path, text)
    two = specs["two"]
    # The nearest value wins: its own, then `shared` of its file, then the other file.
    assert two.stop == {"training_iteration": 1, "time_total_s": 7}
    assert two.config["num_atoms"] == 4 and two.config["lr"] == 0.5
    assert two.checkpoint == {"checkpoint_frequency": 3}
    assert specs["any"].imports == ("json", "csv")
    keys = [("stop", key) for key in ("training_iteration", "time_total_s")]
    more = [("config", "num_atoms"), ("config", "lr"), ("algorithm",)]
    assert [Path(place).name for place in places(tmp_path, two, *keys, *more)] == [
        "f.yaml:1",
        "middle.yaml:3",
        "f.yaml:4",
        "base.yaml:4",
        "base.yaml:7",
    ]


def test_a_tuned_example_is_extended_by_its_name(tmp_path: Path) -> None:
    from rllib_risk.config.loading import resolve_document

    (tmp_path / "f.yaml").write_text("x: {extends: rmix/macn-4x7.yaml, env: macn}\n")
    document = resolve_document(read_training_file(tmp_path / "f.yaml"))
    assert document.data["x"]["run"] == "RMIX"
    assert document.where("x", "run").endswith("rmix/macn-4x7.yaml:16")


def test_another_spelling_of_the_same_key_replaces_it(tmp_path: Path) -> None:
    text = (
        "two: {extends: base.yaml, run: ALGO, checkpoint_freq: 8}\n"
        "one: {extends: base.yaml, config: {env: free}}\n"
    )
    specs = load(tmp_path, text)
    assert specs["two"].checkpoint == {"checkpoint_frequency": 8}
    assert specs["one"].env == "free"


def test_anchors_may_stand_under_shared_or_a_key_with_a_dot(tmp_path: Path) -> None:
    text = (
        "shared: &base {env: known, config: {lr: 0.5}}\n"
        ".small: &small {num_atoms: 2}\n"
        "x:\n  <<: *base\n  run: ALGO\n  config: {<<: *small, seed: 1}\n"
    )
    specs = load(tmp_path, text)
    assert list(specs) == ["x"]
    assert specs["x"].config == {"lr": 0.5, "num_atoms": 2, "seed": 1}
    assert places(tmp_path, specs["x"], ("config", "num_atoms")) == ["f.yaml:2"]


def test_keys_in_without_are_not_inherited(tmp_path: Path) -> None:
    text = (
        "x:\n  extends: base.yaml:one\n"
        "  without: [lr, env_config.width, stop.time_total_s]\n"
        "y:\n  extends: base.yaml:one\n  without: [env_config]\n"
        "  config: {env_config: {width: 3}}\n"
    )
    specs = load(tmp_path, text)
    assert specs["x"].config == {"env_config": {"noise": 0.1}}
    assert specs["x"].stop == {"training_iteration": 5}
    # A mapping that is left out may be written again.
    assert specs["y"].config == {"lr": 0.5, "env_config": {"width": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: {extends: none.yaml}", r"f\.yaml:1: extends: there is no file .*none\.y"),
        ("x: {extends: base}", r"f\.yaml:1: extends: must name a \.yaml file"),
        ("x: {extends: 3}", r"f\.yaml:1: extends: must name a \.yaml file"),
        (
            "x: {extends: base.yaml}",
            r"several experiments, but none named 'x'",
        ),
        ("x: {extends: base.yaml:tow}", r"no experiment 'tow'\. Did you mean 'two'"),
        ("x: {extends: comparison.yaml}", r"comparison\.yaml: this is a comparison"),
        (
            "x: {extends: f.yaml:y}\ny: {extends: f.yaml:x}",
            r"f\.yaml:2: extends: .*circle: f\.yaml:x -> f\.yaml:y -> f\.yaml:x",
        ),
        ("x:\n  extends: circle.yaml", r"circle\.yaml:2: extends: .*circle: "),
        ("extends: base.yaml\nx: {run: ALGO}", r"f\.yaml:1: extends: .* 'shared:'"),
        ("shared: 3\nx: {run: ALGO}", r"f\.yaml:1: shared: must be a mapping"),
        ("shared: {run: ALGO, env: known}", r"f\.yaml: has no experiment. 'shared'"),
        (".x: {run: ALGO, env: known}", r"f\.yaml: has no experiment"),
        ("shared: {confg: {}}\nx: {run: ALGO}", r"f\.yaml:1: unknown key 'confg' of "),
        ("x: {extnds: base.yaml, run: ALGO}", r"f\.yaml:1: .*Did you mean 'extends'"),
        (
            "x:\n  extends: base.yaml:one\n  config: {lr: -1}",
            r"f\.yaml:3: lr: must be in",
        ),
        (
            "x:\n  extends: base.yaml:one\n  env: known\n  without: [lrr]",
            r"f\.yaml:4: without: 'lrr' is not inherited\. Did you mean 'lr'",
        ),
        (
            "x: {extends: base.yaml:one, without: [lr], config: {lr: 1}}",
            r"f\.yaml:1: without: 'lr' also has a new value",
        ),
        ("x: {run: ALGO, without: lr}", r"f\.yaml:1: without: must be a list"),
        (
            "x:\n  extends: bad.yaml:a",
            r"bad\.yaml:2: unknown key 'lrr' of ALGO.*without: \[lrr\]' leaves it out",
        ),
        (
            "x:\n  extends: bad.yaml:b",
            r"bad\.yaml:3: unknown key 'widht' of env_config.*\[env_config\.widht\]",
        ),
        (
            "x:\n  extends: bad.yaml:c",
            r"bad\.yaml:4: lr: must be in .*'without: \[lr\]' leaves it out",
        ),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "comparison.yaml").write_text("algorithms: {ALGO: }\n")
    (tmp_path / "circle.yaml").write_text("x:\n  extends: f.yaml\n")
    (tmp_path / "bad.yaml").write_text(
        "shared: {run: ALGO, env: known}\n"
        "a: {config: {lrr: 1}}\n"
        "b: {config: {env_config: {widht: 1}}}\n"
        "c: {config: {lr: -1}}\n"
    )
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_an_experiment_of_the_same_file_is_extended(tmp_path: Path) -> None:
    text = (
        "x: {run: ALGO, env: known, config: {lr: 0.5, num_atoms: 2}}\n"
        "y: {extends: f.yaml:x, config: {lr: 0.25}}\n"
    )
    assert load(tmp_path, text)["y"].config == {"lr": 0.25, "num_atoms": 2}


def test_a_long_chain_of_two_bases_each_is_resolved_once(tmp_path: Path) -> None:
    text = "x0: {run: ALGO, env: known}\n" + "".join(
        f"x{i}: {{extends: f.yaml:x{i - 1}, config: {{num_atoms: {i}}}}}\n"
        for i in range(1, 60)
    )
    (tmp_path / "c0.yaml").write_text("x: {run: ALGO, env: known}\n")
    for i in range(1, 40):
        extends = f"extends: c{i - 1}.yaml"
        body = f"shared: {{{extends}}}\nx: {{{extends}, config: {{seed: {i}}}}}\n"
        (tmp_path / f"c{i}.yaml").write_text(body)
    specs = load(tmp_path, text + "last: {extends: c39.yaml}\n")
    assert specs["x59"].config == {"num_atoms": 59}
    assert specs["last"].config == {"seed": 39}


def test_imports_are_added_up_and_each_is_named_where_it_stands(tmp_path: Path) -> None:
    text = "one:\n  extends: base.yaml\n  imports: [csv, no_such_module]\n"
    with pytest.raises(ConfigError, match=r"f\.yaml:3: imports: .*'no_such_module'"):
        load(tmp_path, text)
    (tmp_path / "bad.yaml").write_text("one:\n  run: ALGO\n  imports: [no_such_one]\n")
    text = "one: {extends: bad.yaml, env: known, imports: [csv]}\n"
    with pytest.raises(ConfigError, match=r"bad\.yaml:3: imports: .*'no_such_one'"):
        load(tmp_path, text)

"""The strict YAML reader: numbers, duplicates, line numbers."""

from pathlib import Path

import pytest

from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5e+1", -25.0),
        (".5e1", 5.0),
        ("1.0e-3", 0.001),
        ("12", 12),
        ("0.5", 0.5),
        ("'1e-3'", "1e-3"),  # quoted: the user wants text
        ("e5", "e5"),
        ("1e", "1e"),
    ],
)
def test_numbers_are_read_as_written(text: str, value: object) -> None:
    """R27: `1e-3` is a number."""
    data = parse_yaml(f"x: {text}", "f.yaml").data
    assert data == {"x": value}
    assert type(data["x"]) is type(value)


def test_every_key_has_its_line() -> None:
    text = "a:\n  b: 1\n  c:\n    - d: 2\n    - e: 3\n"
    document = parse_yaml(text, "f.yaml")
    assert document.where("a", "b") == "f.yaml:2"
    assert document.where("a", "c", 1, "e") == "f.yaml:5"
    # A key that is not written has the place of the closest written key.
    assert document.where("a", "missing") == "f.yaml:1"
    assert document.where("missing") == "f.yaml"


def test_a_key_given_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml:3: 'lr' is given twice.*line 1"):
        parse_yaml("lr: 1\ngamma: 1\nlr: 2\n", "f.yaml")


def test_merge_keys_may_be_overridden() -> None:
    text = "base: &b {lr: 1, gamma: 0.9}\nrun:\n  <<: *b\n  lr: 2\n"
    document = parse_yaml(text, "f.yaml")
    assert document.data["run"] == {"lr": 2, "gamma": 0.9}
    assert document.where("run", "lr") == "f.yaml:4"
    assert document.where("run", "gamma") == "f.yaml:1"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2", "f.yaml:1"),
        ("a: 1\n  b: 2", "f.yaml:2"),
        ("a: !!set {x}", "f.yaml"),
    ],
)
def test_broken_yaml_names_the_line(text: str, place: str) -> None:
    if "set" in text:
        # Python tags are refused; harmless standard ones are not.
        text = "a: !!python/object/apply:os.getcwd []"
    with pytest.raises(ConfigError, match=place):
        parse_yaml(text, "f.yaml")


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, 8):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    with pytest.raises(ConfigError, match=r"f\.yaml:5: more than 50,000 keys.*alias"):
        parse_yaml("\n".join(lines), "f.yaml")


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a {b: 1, c: *a}", r"f\.yaml:1: '\*a' is inside '&a'"),
        ("a: 1\nb: &b\n  - [1, *b]", r"f\.yaml:3: '\*b' is inside '&b'"),
        ("{a: " * 3000 + "1" + "}" * 3000, r"f\.yaml:1: more than 100 nested levels"),
        ("".join(" " * i + "a:\n" for i in range(3000)), r"f\.yaml:1\d\d: more than"),
        ("".join(f"k{i}: 1\n" for i in range(30_000)), r"f\.yaml:2\d{4}: more than 50"),
        # A merge counts all keys of its aliases, even those that others override.
        (
            "a0: &a0 {x: 1}\n"
            + "".join(
                f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n"
                for i in range(1, 9)
            ),
            r"f\.yaml:\d: more than 50,000",
        ),
        ("a:\n  b: " + "9" * 5000, r"f\.yaml:2: .*4300 digits"),
        ("a:\n  b: 2020-13-45", r"f\.yaml:2: .*month must be in"),
        ("a: \x00", r"f\.yaml:1: not valid YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_oversized_or_recursive_yaml_is_refused(text: str, message: str) -> None:
    """R27: text that is too large, too deep or inside itself, refused with its line."""
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "f.yaml")


def test_merged_keys_keep_the_line_of_their_source() -> None:
    text = (
        "a: &a {x: 1, c: {p: 1, q: 2}}\n"
        "b: &b {x: 2, y: 2}\n"
        "run:\n  <<: [*a, *b]\n  c: {q: 3}\n"
    )
    document = parse_yaml(text, "f.yaml")
    assert document.data["run"] == {"x": 1, "y": 2, "c": {"q": 3}}
    assert document.where("run", "x") == "f.yaml:1"
    assert document.where("run", "y") == "f.yaml:2"
    # `c` of `a` is replaced as a whole, so `p` has no place.
    assert ("run", "c", "p") not in document.places
    assert document.where("run", "c", "q") == "f.yaml:5"

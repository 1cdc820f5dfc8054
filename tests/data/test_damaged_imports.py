"""Damaged rows, files and maps: one clear message each, and nothing left behind.

Damage that leaves a plausible log is not tested: a number that is cut short in the last
cell of a CSV, or a flipped bit in a Parquet file, which has no checksum.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from log_files import WIDE_MAP, WRITERS, log, long_map, long_rows, wide_rows, write_csv

from rllib_risk.config.schema import ConfigError
from rllib_risk.data.importing.importer import import_files
from rllib_risk.data.importing.inference import infer_map
from rllib_risk.data.rows import DatasetError

SEED = 20
FORMATS = ("csv", "csv.gz", "jsonl", "parquet", "npz")
MAPS = {"wide": WIDE_MAP, "long": long_map(4)}


def rows_of(form):
    return (wide_rows if form == "wide" else long_rows)(log((4, 3)))


def refusal(tmp_path: Path, file: Path, text: str) -> str:
    """The message of an import that must fail."""
    (tmp_path / "map.yaml").write_text(text)
    out = tmp_path / "out"
    with pytest.raises((ConfigError, DatasetError)) as caught:
        import_files(out, [file], tmp_path / "map.yaml")
    assert not out.exists()
    message = str(caught.value)
    assert file.name in message or "map.yaml:" in message, message
    assert "Traceback" not in message and len(message) < 700, message
    return message


def put(column, value, kinds=FORMATS):
    """A function that puts a value into a random filled cell of a column."""

    def damage(rows, rng):
        places = [i for i, row in enumerate(rows) if row[column] is not None]
        row = int(rng.choice(places))
        rows[row][column] = value
        return row

    damage.column, damage.kinds = column, kinds
    return damage


TEXTS = ("csv", "csv.gz", "jsonl")  # formats with a type per cell
NUMBERS = {"wide": ["uav_1_o2", "state_0", "reward", "next_uav_0_o1"]}
NUMBERS["long"] = ["o0", "s4", "reward"]
# Values that are wrong in a column of numbers.
BAD = [
    ("oops", TEXTS),
    (float("nan"), FORMATS),
    (float("inf"), FORMATS),
    (1e300, FORMATS),
]
CELLS = {
    form: [
        *(
            put(column, value, kinds)
            for column in columns
            for value, kinds in BAD
            # In the long form a reward may be empty.
            if not (column == "reward" and form == "long" and value != value)
        ),
        *(put(column, None, TEXTS) for column in columns),
    ]
    for form, columns in NUMBERS.items()
}
CELLS["wide"] += [
    *(put("uav_0_action", value) for value in (99, 4, -1, 70_000)),
    *(put("uav_1_action", value, TEXTS) for value in (1.5, "left", None, "")),
    put("uav_0_m1", 2),
    put("uav_0_m1", "x", TEXTS),
    put("done", "maybe", TEXTS),
    put("done", 2, TEXTS),
    put("t", 50),
    put("t", "noon", TEXTS),
    put("episode", "", FORMATS),
]
CELLS["long"] += [
    *(put("action", value) for value in ("a4", "left", "A1")),
    put("agent", "uav_2"),
    put("agent", ""),
    put("m0", 3),
    put("end", "maybe", TEXTS),
    put("t", "noon", TEXTS),
    put("t", -1),
]


@pytest.mark.parametrize("form", ["wide", "long"])
def test_cells(tmp_path, form):
    """R46: damaged input is refused, and named.

    Each value is tried in a CSV and in another format. The message names file, row and
    column.
    """
    rng = np.random.default_rng(SEED)
    number = 0
    for damage in CELLS[form]:
        for kind in ("csv", str(rng.choice(damage.kinds[1:]))):
            rows = rows_of(form)
            row = damage(rows, rng)
            file = WRITERS[kind](tmp_path / f"log{number}.{kind}", rows)
            number += 1
            message = refusal(tmp_path, file, MAPS[form])
            where = re.search(r", (line|row) (\d+), column '(.+?)'", message)
            assert where, message
            if damage.column in ("t", "agent", "end", "episode"):
                continue  # noticed at the next row or at another row of the step
            first = 0 if where[1] == "row" else 1 if kind.startswith("json") else 2
            found = (int(where[2]) - first, where[3])
            assert found == (row, damage.column), message
    assert number > 40


def swap(one, other):
    def change(rows):
        rows[one], rows[other] = rows[other], rows[one]

    return change


def change_cell(row, column, value):
    def change(rows):
        rows[row][column] = value

    return change


def drop_column(column):
    def change(rows):
        for row in rows:
            del row[column]

    return change


def repeat(row):
    return lambda rows: rows.insert(row + 1, dict(rows[row]))


def drop(*places):
    def change(rows):
        for place in places:
            del rows[place]

    return change


def by_agent(rows):
    rows.sort(key=lambda row: row["agent"])


def without_action(rows):
    rows[2]["action"] = rows[3]["action"] = None


# The episodes are rows 0 to 3 and 4 to 6 of the wide log, and rows 0 to 9 and 10 to 17
# of the long log.
ORDERS = {
    "wide": [
        (drop(1), "line 3, column 't': the time is 2 after .* rows are missing"),
        (repeat(1), "line 4, column 't': the time 1 is that of the row before"),
        (swap(0, 1), "line 3, column 't': the time 0 runs backwards"),
        (swap(1, 5), "line 4, column 'episode': episode 'run0' was there before"),
        (change_cell(1, "done", True), "line 3, column 'done': the episode goes on"),
        (change_cell(4, "timeout", 1), "line 6, column 'timeout': the episode goes on"),
        (change_cell(2, "next_state_0", 0.5), "line 4, column 'next_state_0': is not"),
        (change_cell(1, "uav_1_o0", 0.5), "line 2, column 'next_uav_1_o0': is not"),
        *(
            (
                drop_column(name),
                rf"map\.yaml:\d+: \w+: .*log\.csv has no column '{name}'",
            )
            for name in ("t", "episode", "reward", "done", "timeout", "uav_1_action")
        ),
    ],
    "long": [
        (drop(3), "line 4, column 'agent': there is no row of uav_1 at this time"),
        (repeat(2), "line 5, column 'agent': uav_0 is there twice at this time"),
        (by_agent, "line 2, column 'agent': there is no row of uav_1 at this time"),
        (swap(2, 5), "column 'agent': (uav_1 is there twice|there is no row of)"),
        (change_cell(1, "reward", 7.0), "line 3, column 'reward': differs between"),
        (change_cell(1, "s0", 7.0), "line 3, column 's0': 'state' differs between"),
        (change_cell(9, "end", False), "line 11, column 'end': differs between"),
        (
            change_cell(2, "action", None),
            "line 4, column 'action': is empty, and other",
        ),
        (without_action, "line 4, column 'action': is empty, and it is not the last"),
        (drop(-1, -1), "line 16, column 'action': the last row of the episode has an"),
        (drop(*[0] * 8), "line 2, column 'action': the episode has no action"),
        *(
            (
                drop_column(name),
                rf"map\.yaml:\d+: \w+: .*log\.csv has no column '{name}'",
            )
            for name in ("t", "episode", "reward", "agent", "action", "end")
        ),
    ],
}


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [(form, *case) for form, cases in ORDERS.items() for case in cases],
)
def test_rows_that_do_not_fit_together(tmp_path, form, change, message):
    """R46: damaged input is refused, and named."""
    rows = rows_of(form)
    change(rows)
    file = write_csv(tmp_path / "log.csv", rows)
    assert re.search(message, refusal(tmp_path, file, MAPS[form]))


def edit(text, line, change):
    lines = text.splitlines()
    lines[line] = change(lines[line])
    return "\n".join(lines) + "\n"


def on(line, *replaced):
    """Replaces a text in a line, or the whole line by one text."""

    def change(data):
        lines = data.decode().splitlines(keepends=True)
        if len(replaced) == 1:
            lines[line] = replaced[0] + "\n"
        else:
            lines[line] = lines[line].replace(*replaced, 1)
        return "".join(lines).encode()

    return change


def all_of(old, new):
    return lambda data: data.replace(old, new)


def as_utf_16(data):
    return data.decode().encode("utf-16")


TEXT_FILES = [
    ("csv", lambda data: b"", "log.csv is empty"),
    ("csv", lambda data: b"\n" + data, "log.csv is empty: it has no columns"),
    ("csv", lambda data: data.split(b"\n")[0] + b"\n", "log.csv: there is no row"),
    (
        "csv",
        lambda data: data[: data.rindex(b",")],
        "line 8: has 44 .* last line cut short",
    ),
    ("csv", lambda data: np.random.default_rng(0).bytes(999), "log.csv"),
    ("csv", as_utf_16, "log.csv is a text in UTF-16. Save it as UTF-8"),
    ("csv", all_of(b"run0", b"r\xfcn0"), "log.csv, line 2: is not UTF-8"),
    ("csv", all_of(b"uav_0", b"\xfc"), "log.csv, line 1: is not UTF-8"),
    ("csv", all_of(b"episode", b"\0"), "line 1: is no line of column names"),
    ("csv", all_of(b",", b";"), 'Set separator: ";" in the map'),
    ("csv", all_of(b",", b"\t"), r'Set separator: "\\t" in the map'),
    ("csv", all_of(b"\n", b"\r"), "line 1"),
    ("csv", on(3, ",", ",,"), "line 4: has 46 column.*, and line 1 has 45"),
    ("csv", on(3, ",", ""), "line 4: has 44 column.*, and line 1 has 45"),
    ("csv", on(3, ".", ","), "line 4: has 46 column.*must stand in quotes"),
    ("csv", on(3, ""), "line 4"),
    ("csv", on(2, "run0", '"run0'), "line 3: has 1 column.* A quote may be left open"),
    ("csv", on(2, "run0,1", 'run0,"0,5"'), """column 't': '0,5' .* decimal: ",\""""),
    ("csv", on(0, "uav_0_o1", "uav_0_o0"), "the column 'uav_0_o0' is there twice"),
    ("jsonl", lambda data: b"", "log.jsonl is empty"),
    ("jsonl", lambda data: data[:-9], "line 7: is no JSON object"),
    ("jsonl", as_utf_16, "line 1: is not UTF-8"),
    ("jsonl", all_of(b"run0", b"r\xfcn0"), "line 1: is not UTF-8"),
    ("jsonl", all_of(b"\n", b",\n"), "line 1: is no JSON object"),
    ("jsonl", on(1, "[1, 2]"), r"line 2: must hold a JSON object, not '\[1, 2\]"),
    ("jsonl", on(1, ""), "line 2: is no JSON object"),
    ("jsonl", on(1, "[" * 99_999), "line 2: is no JSON object"),
    ("jsonl", on(1, '"t": 1', '"t": 1, "t": 2'), "line 2: .*'t' is there twice"),
    ("jsonl", on(1, '"t"', '"u"'), "line 2: there is no 't'"),
    ("jsonl", on(1, '"reward": ', '"reward": [1, 2], "x": '), "column 'reward': holds"),
    ("jsonl", on(1, '"reward": ', '"reward": {"a": 1}, "x": '), "there is no 'reward'"),
    ("jsonl", on(1, '"state_0": ', '"state_0": [[1], 2], "x": '), "of several lengths"),
]


@pytest.mark.parametrize(("kind", "change", "message"), TEXT_FILES)
def test_texts(tmp_path, kind, change, message):
    """R46: damaged input is refused, and named."""
    file = WRITERS[kind](tmp_path / f"log.{kind}", rows_of("wide"))
    file.write_bytes(change(file.read_bytes()))
    assert re.search(message, refusal(tmp_path, file, WIDE_MAP))


def test_a_bom_and_line_ends_of_windows_are_no_damage(tmp_path):
    file = write_csv(tmp_path / "log.csv", rows_of("wide"))
    text = file.read_text().replace("\n", "\r\n")
    file.write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "map.yaml").write_text(WIDE_MAP)
    card, _ = import_files(tmp_path / "out", [file], tmp_path / "map.yaml")
    assert (card.num_episodes, card.num_steps) == (2, 7)


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz", "parquet", "npz", "h5"])
def test_files_cut_short_or_with_flipped_bits(tmp_path, kind):
    """R46: 20 cuts of each format, and 20 flips where the format has a checksum."""
    if kind == "h5":
        pytest.importorskip("h5py", reason="needs rllib-risk[hdf5]")
    rng = np.random.default_rng(SEED)
    file = WRITERS[kind](tmp_path / f"log.{kind}", rows_of("wide"))
    data = file.read_bytes()
    for cut in rng.integers(len(data) - 1, size=20).tolist():
        file.write_bytes(data[:cut])
        refusal(tmp_path, file, WIDE_MAP)
    if not kind.endswith("gz"):
        return
    for bit in rng.integers(8 * 10, 8 * len(data), size=20).tolist():
        copy = bytearray(data)
        copy[bit // 8] ^= 1 << bit % 8
        file.write_bytes(copy)
        refusal(tmp_path, file, WIDE_MAP)


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz", "csv", "parquet", "npz"])
def test_a_map_of_a_damaged_file_is_refused(tmp_path, kind):
    """R46: --infer refuses what an import refuses, also in the first line."""
    file = WRITERS[kind](tmp_path / f"log.{kind}", rows_of("wide"))
    whole = file.read_bytes()
    for damaged in (b"", whole[:8], b"\0\1 no file of this kind"):
        file.write_bytes(damaged)
        if kind == "csv" and damaged == whole[:8]:
            continue  # a shorter header is a header
        refusal(tmp_path, file, WIDE_MAP)
        with pytest.raises(DatasetError, match=re.escape(str(file))):
            infer_map([file])


def test_other_files(tmp_path):
    """R46: damaged input is refused, and named."""
    (tmp_path / "map.yaml").write_text(WIDE_MAP)
    (tmp_path / "empty").mkdir()
    (tmp_path / "log.xlsx").write_text("")
    for source, message in [
        ("nowhere.csv", "nowhere.csv: there is no such file"),
        ("*.csv", "there is no such file"),
        ("emp*", "only folders match"),
        ("empty", "empty holds no file that can be read"),
        ("log.xlsx", "log.xlsx: its format is not known"),
    ]:
        with pytest.raises(DatasetError, match=re.escape(message)):
            import_files(tmp_path / "out", [tmp_path / source], tmp_path / "map.yaml")
    np.savez(tmp_path / "log.npz", **{"uav_0_o0": np.zeros(3), "t": np.zeros(4)})
    assert "has no column" in refusal(tmp_path, tmp_path / "log.npz", WIDE_MAP)
    text = "form: wide\nagents: [a]\nobservation: x\naction: {columns: u, count: 2}\n"
    text += "reward: r\nterminated: d\n"
    arrays = {name: np.zeros(3) for name in "xurd"}
    for change, message in [
        ({"r": np.zeros(4)}, r"'r' has shape \(4,\), and 'x' has \(3,\)"),
        ({"r": np.float64(0)}, "'r' is a single value"),
        ({"r": np.zeros(3, complex)}, "'r' is of type complex128"),
        ({"r": np.array([None] * 3)}, "'r' is of type object"),
        (
            {"u": np.zeros((3, 2))},
            "column 'u': holds values of 2 agents, and there are 1",
        ),
    ]:
        np.savez(tmp_path / "log.npz", **(arrays | change))
        assert re.search(message, refusal(tmp_path, tmp_path / "log.npz", text))


# Keys that may be left out.
OPTIONAL = {"mask", "time", "truncated", "state", "next", "episode"}
WRONG_VALUES = (True, 3.5, [], {}, {"nosuch": 1}, "nosuch*", [["a"]], 10**9)


def wrong_maps(form):
    """Maps with a key that is missing, mistyped or of a wrong value."""
    values = yaml.safe_load(MAPS[form])
    for key in values:
        if key not in OPTIONAL:
            yield {k: v for k, v in values.items() if k != key}
        yield {f"{k}s" if k == key else k: v for k, v in values.items()}
        for value in WRONG_VALUES:
            yield values | {key: value}


@pytest.mark.parametrize("form", ["wide", "long"])
def test_maps(tmp_path, form):
    """R46: damaged input is refused, and named."""
    file = write_csv(tmp_path / "log.csv", rows_of(form))
    maps = list(wrong_maps(form))
    assert len(maps) > 100
    one = MAPS[form]
    for text in [
        *(yaml.safe_dump(values, sort_keys=False) for values in maps),
        *("", "[]", "a: [", one + "form: wide\n", one + "end: truncated\n"),
        *(one + more for more in ("separator: ab\n", "decimal: x\n", "end: 3\n")),
        one.replace("[uav_0, uav_1]", "[uav_0, uav_0]"),
        one.replace("[uav_0, uav_1]", "[uav_0, uav_9]"),
        one.replace("reward: reward", "reward: {columns: reward, team: max}"),
        one.replace("reward: reward", "reward: rewrad"),
        one.replace("reward: reward", "reward: '*'"),
        one.replace('state: "', 'state: "re*'),
        one.replace("_o*", "_*").replace('"o*', '"*'),
    ]:
        refusal(tmp_path, file, text)

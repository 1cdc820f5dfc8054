"""A file is read in pieces: memory does not grow with its length."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rllib_risk.data import dataset
from rllib_risk.data.importing import array_files, csv_files, json_lines
from rllib_risk.data.importing.importer import import_files

STEPS, NUMBERS, PIECE = 20, 16, 2**14
ROWS = (1_500, 6_000)
FORMS = {
    "wide": """\
form: wide
agents: [a, b]
observation: "{agent}_*"
action: {columns: "u_{agent}", count: 3}
""",
    "long": """\
form: long
agents: [a, b]
agent: agent
observation: "a_*"
action: {columns: u_a, count: 3}
""",
}
REST = "reward: r\nepisode: e\ntime: t\nend: truncated\n"


def write(path, rows, form):
    """Writes rows whose numbers do not compress."""
    rng = np.random.default_rng(0)
    step = np.arange(rows) // (1 if form == "wide" else 2)
    columns = {
        **{f"a_{k}": rng.normal(size=rows) for k in range(NUMBERS)},
        **{f"b_{k}": rng.normal(size=rows) for k in range(NUMBERS)},
        "u_a": rng.integers(3, size=rows),
        "u_b": rng.integers(3, size=rows),
        "agent": np.where(np.arange(rows) % 2, "b", "a"),
        "r": np.round(step % 7 / 7, 3),
        "e": step // STEPS,
        "t": step,
    }
    table = pa.table(columns)
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=500)
    elif path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        table.to_pandas().to_json(path, orient="records", lines=True)


def peak(path, text, out):
    """Peak memory of NumPy, Python and Arrow during an import, in bytes."""
    (out.parent / "map.yaml").write_text(text)
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        import_files(out, [path], out.parent / "map.yaml")
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


@pytest.mark.parametrize(
    ("kind", "form"),
    [("csv", "wide"), ("npz", "wide"), ("jsonl", "long"), ("parquet", "long")],
)
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, kind, form):
    """R46: the memory of an import does not grow with the file."""
    for module in (csv_files, json_lines, array_files):
        monkeypatch.setattr(module, "BLOCK_BYTES", PIECE)
    monkeypatch.setattr(array_files, "_PARQUET_ROWS", 200)
    monkeypatch.setattr(dataset, "BYTES_PER_SHARD", 2 * PIECE)
    found = []
    for rows in ROWS:
        path = tmp_path / f"{rows}.{kind}"
        write(path, rows, form)
        found.append(peak(path, FORMS[form] + REST, tmp_path / f"out{rows}"))
    # Four times the rows. Only the names and returns of episodes stay in memory.
    assert found[1] < 1.2 * found[0] + 4 * PIECE, found

"""``rllib dataset import`` from a first map to a checked dataset."""

import pytest
from log_files import (
    assert_same,
    csv_of,
    log,
    long_rows,
    uav_log,
    wide_rows,
    write_csv,
    write_json_lines,
)

from rllib_risk.cli.main import run
from rllib_risk.data.dataset import Dataset


def called(capsys, *arguments, code=0):
    """Runs the command and returns what it prints on both streams."""
    assert run(["dataset", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())


def renamed(rows, *names):
    """The same rows with renamed columns."""

    def name(key):
        for old, new in names:
            key = key.replace(old, new)
        return key

    return [{name(key): value for key, value in row.items()} for row in rows]


def test_from_columns_to_a_dataset_in_the_wide_form(tmp_path, monkeypatch, capsys):
    """The guessed map of well-named columns needs no change."""
    monkeypatch.chdir(tmp_path)
    episodes = log((4, 3))
    rows = renamed(wide_rows(episodes), ("0_o", "0_obs_"), ("1_o", "1_obs_"))
    rows = renamed(rows, ("0_m", "0_mask_"), ("1_m", "1_mask_"))
    write_csv(tmp_path / "log.csv", rows, ";", ",")
    said = called(capsys, "import", "--infer", "log.csv")
    assert "Guessed form: wide, with agents [uav_0, uav_1]" in said
    assert "Guessed next.mask: next_{agent}_mask_*" in said
    assert "Not guessed" not in said and "Wrote map.yaml" in said
    said = called(capsys, "import", "out", "log.csv", "--map", "map.yaml")
    assert "imported log.csv, format map" in said and "2 (7 env steps" in said
    assert "out is complete and undamaged: 2 episodes" in called(capsys, "check", "out")
    assert_same(list(Dataset("out").episodes()), episodes)
    said = called(capsys, "import", "--infer", "log.csv", code=2)
    assert "map.yaml exists already. Choose another file with --map." in said


@pytest.mark.parametrize("name", ["{a}_{k}", "{k}.{a}"])
def test_agents_of_one_letter(name, tmp_path, monkeypatch, capsys):
    """One-letter names also occur in other words, and "a" may mean an action."""
    monkeypatch.chdir(tmp_path)
    episodes = log((3,))
    rows = wide_rows(episodes)
    for old, agent in (("uav_0", "a"), ("uav_1", "b")):
        for given, said in (("o", "obs"), ("action", "action"), ("m", "mask")):
            new = name.format(a=agent, k=said)
            rows = renamed(rows, (f"{old}_{given}", new))
    write_csv(tmp_path / "log.csv", rows)
    said = called(capsys, "import", "--infer", "log.csv")
    assert "wide, with agents [a, b]" in said
    assert name.format(a="{agent}", k="action") in said


def test_from_columns_to_a_dataset_in_the_long_form(tmp_path, monkeypatch, capsys):
    """The map marks what was not guessed, and the import asks for it."""
    monkeypatch.chdir(tmp_path)
    episodes = log((4, 3))
    rows = renamed(long_rows(episodes), ("end", "is_over"), ("o0", "obs_0"))
    rows = renamed(rows, ("o1", "obs_1"), ("o2", "obs_2"), ("m", "mask_"))
    write_json_lines(tmp_path / "log.jsonl", rows)
    said = called(capsys, "import", "--infer", "log.jsonl", "--map", "my.yaml")
    assert "Guessed form: long" in said and "Not guessed: end:" in said
    assert "Guessed final: row" in said and "Not used: 'is_over'" in said
    call = ("import", "out", "log.jsonl", "--map", "my.yaml")
    assert "my.yaml: end: is missing" in called(capsys, *call, code=2)
    text = (tmp_path / "my.yaml").read_text()
    assert "# NOT GUESSED end" in text
    (tmp_path / "my.yaml").write_text(text + "terminated: is_over\n")
    called(capsys, *call)
    assert_same(list(Dataset("out").episodes()), episodes)


@pytest.mark.parametrize("old", [True, False])
def test_the_authors_form_in_the_old_and_the_present_order(tmp_path, capsys, old):
    episodes = uav_log(2, steps=7)
    source, out = csv_of(tmp_path / "a.csv", episodes), tmp_path / "out"
    words = ("uav-csv", source, out) if old else (out, source, "--format", "uav-csv")
    config = '{"episode_steps": 7}'
    assert "env uav" in called(capsys, "import", *words, "--env-config", config)
    assert_same(list(Dataset(out).episodes()), episodes)


def test_import_prints_cut_and_dropped_episodes(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("ep,o,u,r\n1,1,0,1\n1,2,1,1\n2,3,0,1\n")
    (tmp_path / "map.yaml").write_text(
        "form: wide\nagents: [one]\nobservation: o\naction: {columns: u, count: 2}\n"
        "reward: r\nepisode: ep\nend: truncated\n"
    )
    call = (tmp_path / "out", tmp_path / "log.csv", "--map", tmp_path / "map.yaml")
    said = called(capsys, "import", *call)
    assert (
        "1 episode(s) were cut off, and the files do not hold the observation" in said
    )
    assert "1 episode(s) of one step are left out for the same" in said
    (tmp_path / "log.csv").write_text("ep,o,u,r\n1,1,0,1\n1,2,9,1\n")
    said = called(capsys, "import", tmp_path / "b", *call[1:], code=2)
    assert "log.csv, line 3, column 'u': 9 is no action; they go from 0 to 1." in said
    assert not (tmp_path / "b").exists()

"""Reading artefacts: a stored one of each format, and damaged ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import FIRST_FORMAT, OLD_ARTEFACTS, copy_of_first_format
from safetensors.numpy import load_file

from rllib_risk.deploy import ArtefactError, Team
from rllib_risk.deploy.files import (
    MANIFEST,
    POLICY,
    READABLE_VERSIONS,
    TENSORS,
    read_tensors,
    write_manifest,
)

ROOT = Path(__file__).parents[2]
# Outputs of the stored artefact on five steps of seed 0, by the version that wrote it.
EXPECTED_ACTIONS = [[1, 1], [1, 1], [1, 1], [2, 2], [1, 1]]
EXPECTED_LEVELS = [[0.9, 0.9], [0.7, 0.5], [0.3, 0.5], [0.3, 0.3], [0.7, 0.8]]


def play(team):
    rng = np.random.default_rng(0)
    actions, levels = [], []
    for _ in range(5):
        actions.append(team.act(rng.normal(size=(2, 9))).tolist())
        levels.append(team.risk_levels.astype(float).round(6).tolist())
    return actions, levels


@pytest.mark.parametrize("version", READABLE_VERSIONS)
def test_an_artefact_of_each_format_acts_as_it_did(version):
    """R48: formats 1 and 2 hold the same checkpoint and differ in the provenance."""
    folder = OLD_ARTEFACTS / str(version)
    assert json.loads((folder / MANIFEST).read_text())["format"] == version
    actions, levels = play(Team.load(folder))
    assert actions == EXPECTED_ACTIONS
    assert levels == EXPECTED_LEVELS


def test_tensors_are_those_that_the_safetensors_package_reads():
    theirs, ours = (
        load_file(FIRST_FORMAT / TENSORS),
        read_tensors(FIRST_FORMAT / TENSORS),
    )
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)


def test_neither_ray_nor_torch_is_loaded_to_act():
    """R47: an exported team."""
    code = (
        "import sys, numpy\n"
        "from rllib_risk.deploy import Team\n"
        f"team = Team.load({str(FIRST_FORMAT)!r})\n"
        "print(team.act(numpy.zeros((2, 9))).tolist())\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    actions, modules = map(json.loads, done.stdout.replace("'", '"').splitlines())
    assert actions == Team.load(FIRST_FORMAT).act(np.zeros((2, 9))).tolist()
    heavy = {"gymnasium", "pettingzoo", "ray", "safetensors", "scipy", "torch"}
    assert "numpy" in modules and not heavy & set(modules)


@pytest.mark.parametrize("name", [MANIFEST, POLICY, TENSORS])
def test_every_flipped_bit_is_found(name, tmp_path):
    """R48: checksums of an artefact."""
    folder = copy_of_first_format(tmp_path)
    path = folder / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = (
        range(len(whole)) if name == MANIFEST else rng.integers(len(whole), size=60)
    )
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with pytest.raises(ArtefactError):
            Team.load(folder)
    path.write_bytes(whole)
    Team.load(folder)


def test_files_that_are_missing_or_cut_short_are_named(tmp_path):
    """R48: checksums of an artefact."""
    with pytest.raises(ArtefactError, match=r"There is no folder .*absent"):
        Team.load(tmp_path / "absent")
    with pytest.raises(ArtefactError, match="is not an exported team"):
        Team.load(tmp_path)
    folder = copy_of_first_format(tmp_path)
    tensors = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(tensors[:-1])
    with pytest.raises(ArtefactError, match=r"policy\.safetensors does not match its"):
        Team.load(folder)
    (folder / TENSORS).unlink()
    with pytest.raises(ArtefactError, match=r"policy\.safetensors is missing"):
        Team.load(folder)


def change(folder, edit):
    """Changes `policy.json` and updates its checksum."""
    policy = json.loads((folder / POLICY).read_text())
    edit(policy)
    (folder / POLICY).write_text(json.dumps(policy))
    write_manifest(folder, [POLICY, TENSORS])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: p.pop("contract"), "KeyError: 'contract'"),
        (lambda p: p["networks"][0]["nodes"][0].__setitem__(0, "exec"), "'exec'"),
        (lambda p: p["networks"][0]["nodes"][0][1].append("v99"), "v99"),
        (lambda p: p["contract"].update(obs_size=8), "ValueError"),
        (lambda p: p["contract"].update(num_actions=5), "ValueError"),
        (lambda p: p.update(networks=p["networks"] * 0), "IndexError"),
    ],
)
def test_contents_that_do_not_fit_are_refused(edit, message, tmp_path):
    """R48: checksums of an artefact."""
    folder = copy_of_first_format(tmp_path)
    change(folder, edit)
    with pytest.raises(ArtefactError, match=message):
        Team.load(folder)


def test_a_manifest_names_files_beside_it_alone(tmp_path):
    """R48: checksums of an artefact."""
    folder = copy_of_first_format(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"]["../secret"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"'\.\./secret', which is not a file in"):
        Team.load(folder)
    (folder / MANIFEST).write_text('{"format": 3, "sha256": {}}')
    with pytest.raises(ArtefactError, match=r"has format 3, .* Install a later"):
        Team.load(folder)


@pytest.mark.parametrize(
    ("files", "listed", "message"),
    [
        (None, [POLICY], r"does not list 'policy\.safetensors'"),
        (["team.onnx"], [POLICY, TENSORS], r"does not list 'team\.onnx'"),
        (["../team.onnx"], [POLICY, TENSORS], r"does not list '\.\./team\.onnx'"),
        (7, [POLICY, TENSORS], "an entry 'onnx' that this version cannot read"),
    ],
)
def test_a_file_of_the_team_without_a_checksum_is_refused(
    files, listed, message, tmp_path
):
    """R48: checksums of an artefact."""
    folder = copy_of_first_format(tmp_path)
    for place in (folder, tmp_path):
        (place / "team.onnx").write_bytes(b"a network")
    if files is not None:
        change(folder, lambda policy: policy.update(onnx={"files": files}))
    write_manifest(folder, listed)
    with pytest.raises(ArtefactError, match=message):
        Team.load(folder)

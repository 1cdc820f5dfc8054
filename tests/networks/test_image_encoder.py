"""The encoder for images: its pixels, its other inputs, and acting step by step."""

import numpy as np
import pytest
import torch
from team_cases import of_keys
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.deploy.graph import Graph
from rllib_risk.deploy.operations import conv
from rllib_risk.networks.image_encoder import ImageEncoder
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.numpy_actor import NumpyActor
from rllib_risk.parts.traced_team import trace_team

IMAGE = (6, 5, 3)
SIZES = TeamSizes(2, 4, 90, 0, IMAGE)


def make_network(seed=0, **keys):
    torch.manual_seed(seed)
    keys = {"encoder": "cnn", "cnn_channels": [4, 6], "hidden_size": 16, **keys}
    return of_keys(SIZES, **keys)


def test_pixels_are_scaled_and_the_rest_joins_behind_them():
    # A 4x4 image with two channels and one convolution that copies the second channel
    # at the centre of its kernel: with stride 2 and padding 1 these are rows and
    # columns 0 and 2. The linear layer sums them and adds 10 times the other input.
    sizes = TeamSizes(1, 1, 32, 0, (4, 4, 2))
    options = ImageEncoder.Options(hidden_size=1, recurrent=False, cnn_channels=[1])
    encoder = ImageEncoder(sizes, 33, options)
    image = np.arange(32).reshape(4, 4, 2)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        encoder.convolutions[0].weight[0, 1, 1, 1] = 1.0
        encoder.fc1.weight[:] = torch.tensor([1.0, 1.0, 1.0, 1.0, 10.0])
        encoder.body.weight.fill_(1.0)
        inputs = torch.tensor([[[*image.ravel(), 7.0]]])
        features, _ = encoder(inputs, None)
    # (1 + 5 + 17 + 21) / 255 + 70
    assert image[::2, ::2, 1].ravel().tolist() == [1, 5, 17, 21]
    assert features.item() == pytest.approx(44 / 255 + 70)


def test_only_images_of_any_size_are_read():
    with pytest.raises(ValueError, match="encoder: 'cnn' needs images"):
        ImageEncoder(TeamSizes(1, 1, 32, 0), 32)
    for channels in ([], [4, 0], [True], [2.5], ["4"]):
        options = ImageEncoder.Options(cnn_channels=channels)
        with pytest.raises(ValueError, match="cnn_channels: must list"):
            ImageEncoder(SIZES, 90, options)
    # 84 -> 42 -> 21 -> 11: 11 * 11 * 32 numbers before the linear layer.
    encoder = ImageEncoder(TeamSizes(1, 1, 84 * 84, 0, (84, 84, 1)), 84 * 84)
    assert encoder.fc1.in_features == 11 * 11 * 32


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rnn_cell": "lstm"},
        {"recurrent": False},
        {"parameter_sharing": False},
        {"agent_ids": False, "obs_last_action": False},
        {"num_atoms": 4, "risk_measure": "cvar", "risk_mode": "dynamic"},
    ],
)
def test_acting_and_the_export_compute_what_learning_does(keys):
    """Utilities of the unroll, the NumPy actor and the exported graph are the same."""
    network = make_network(**keys)
    rng = np.random.default_rng(0)
    obs = rng.integers(256, size=(2, 4, 2, 90)).astype(np.uint8)  # [B, T, N, D]
    mask = np.ones((2, 2, 4), np.uint8)
    actor = make_actor(network, 2)
    assert isinstance(actor, NumpyActor)
    traced = trace_team(network)
    graphs = [Graph(record, traced.tensors) for record in traced.networks]
    memory, last = np.tile(traced.memory, (2, 1, 1)), np.full((2, 2), -1)
    acted, actions = [], []
    for t in range(4):
        utilities, _ = actor.act(obs[:, t], mask)
        for i in range(2):
            given = {
                "obs": obs[:, t, i].astype(np.float32),
                "action_mask": mask[:, i].astype(bool),
                "last_action": last[:, i],
                "agent": np.full(2, i),
                "memory": memory[:, i],
            }
            out = graphs[i % len(graphs)](given)
            np.testing.assert_allclose(out["utilities"], utilities[:, i], atol=1e-5)
            memory[:, i] = out["next_memory"]
        last = utilities.argmax(-1)
        actor.remember(last)
        acted.append(utilities)
        actions.append(last)
    taken = torch.from_numpy(np.stack(actions, axis=1))
    with torch.no_grad():
        inputs = network.inputs(torch.from_numpy(obs).float(), taken[:, :-1])
        learned = network.utilities(network.unroll(inputs), torch.ones(2, 4, 2, 4))
    np.testing.assert_allclose(learned, np.stack(acted, axis=1), atol=1e-5)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (3, 2)])
def test_the_exported_convolution_is_pytorchs(stride, padding):
    rng = np.random.default_rng(0)
    rows, weight = rng.normal(size=(2, 3, 7, 6)), rng.normal(size=(4, 3, 3, 3))
    bias = rng.normal(size=4)
    expected = F.conv2d(*map(torch.from_numpy, (rows, weight, bias)), stride, padding)
    found = conv(rows, weight, bias, stride=stride, padding=padding)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_onnx_computes_what_the_network_does(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs rllib-risk[onnx]")
    pytest.importorskip("onnxruntime", reason="needs rllib-risk[onnx]")
    from rllib_risk.deploy.onnx_export import to_onnx
    from rllib_risk.deploy.onnx_session import OnnxSession

    traced = trace_team(make_network())
    record = traced.networks[0]
    sizes = {"obs": 90, "action_mask": 4, "memory": traced.memory.shape[1]}
    onnx.save(to_onnx(record, traced.tensors, sizes, "team"), tmp_path / "team.onnx")
    rng = np.random.default_rng(0)
    given = {
        "obs": rng.integers(256, size=(5, 90)).astype(np.float32),
        "action_mask": np.ones((5, 4), bool),
        "last_action": np.full(5, -1),
        "agent": np.arange(5) % 2,
        "memory": rng.normal(size=(5, sizes["memory"])).astype(np.float32),
    }
    found = OnnxSession(tmp_path / "team.onnx")(given)
    expected = Graph(record, traced.tensors)(given)
    for name in ("utilities", "next_memory"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)

"""ONNX graphs compute the outputs of the networks from which they are exported."""

import numpy as np
import pytest
from exported import KINDS
from team_cases import make_network

from rllib_risk.deploy.graph import Graph
from rllib_risk.parts.traced_team import trace_team

onnx = pytest.importorskip("onnx", reason="needs rllib-risk[onnx]")
pytest.importorskip("onnxruntime", reason="needs rllib-risk[onnx]")


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_computes_what_the_network_does(kind, window, tmp_path):
    from rllib_risk.deploy.onnx_export import OPSET, to_onnx
    from rllib_risk.deploy.onnx_session import OnnxSession

    traced = trace_team(make_network(3, **KINDS[kind]), window, padded=window == 3)
    record, size = traced.networks[0], traced.memory.shape[1]
    sizes = {"obs": 5, "action_mask": 4, "memory": size}
    model = to_onnx(record, traced.tensors, sizes, "team")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    onnx.save(model, tmp_path / "team.onnx")
    session, graph = OnnxSession(tmp_path / "team.onnx"), Graph(record, traced.tensors)
    rng = np.random.default_rng(0)
    for rows in (1, 7):  # the first axis is dynamic
        memory = np.tile(traced.memory[:1], (rows, 1))
        last = np.full(rows, traced.first_action, np.int64)
        for _ in range(4):
            mask = rng.random((rows, 4)) < 0.6
            mask[:, 0] = True
            given = {
                "obs": rng.normal(size=(rows, 5)).astype(np.float32),
                "action_mask": mask,
                "last_action": last,
                "agent": np.arange(rows, dtype=np.int64) % 3,
                "memory": memory,
            }
            expected, found = graph(given), session(given)
            for name in ("utilities", "next_memory", "risk_level"):
                np.testing.assert_allclose(
                    found[name], expected[name], rtol=1e-5, atol=1e-5
                )
            assert (found["action"] == expected["action"]).all()
            memory, last = expected["next_memory"], expected["action"]

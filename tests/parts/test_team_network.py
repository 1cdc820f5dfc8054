"""The team's network against a step-by-step reference, and results that are equal."""

import itertools

import pytest
import torch
from team_cases import all_utilities, make_inputs, make_network, unroll
from torch import nn

from rllib_risk.parts.mixers import MixerInputs

RISK = {
    "num_atoms": 10,
    "risk_measure": "cvar",
    "risk_mode": "dynamic",
    "risk_levels": 5,
}
STATIC = {"num_atoms": 10, "risk_measure": "cvar", "alpha": 0.3}


def parameter_count(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


def test_number_of_parameters():
    # MACN of width 7: 9 observed numbers, 4 actions, 2 agents, 56 numbers of state.
    macn = {"num_agents": 2, "num_actions": 4, "obs_size": 9, "state_size": 56}
    network = make_network(**macn, hidden_size=64)
    assert parameter_count(network) == 26_244
    # M = 100, K = 10, d = 2: 25 984 encoder + 65 * 400 head = 51 984; history 25 984;
    # embeddings 400 * 2 * 10 + 400 * 2 = 8800.
    risk = {"num_atoms": 100, "risk_measure": "cvar", "risk_mode": "dynamic"}
    network = make_network(**macn, hidden_size=64, **risk)
    assert parameter_count(network) == 51_984 + 25_984 + 8_800 == 86_768
    network = make_network(**macn, hidden_size=64, **risk, mixer="qmix")
    assert parameter_count(network.agents) == 86_768
    assert parameter_count(network.mixer) == 17_217
    network = make_network(
        **macn, hidden_size=64, **risk, mixer="vdn", parameter_sharing=False
    )
    assert parameter_count(network) == 2 * 86_768


def test_inputs():
    # Observation, last action (zeros at the start), own id.
    network = make_network(num_agents=2, num_actions=3, obs_size=1, state_size=0)
    obs = torch.tensor([[[[5.0], [6.0]], [[7.0], [8.0]], [[9.0], [10.0]]]])
    actions = torch.tensor([[[2, 0], [1, 1]]])
    assert network.inputs(obs, actions).tolist() == [
        [
            [[5.0, 0, 0, 0, 1, 0], [6.0, 0, 0, 0, 0, 1]],
            [[7.0, 0, 0, 1, 1, 0], [8.0, 1, 0, 0, 0, 1]],
            [[9.0, 0, 1, 0, 1, 0], [10.0, 0, 1, 0, 0, 1]],
        ]
    ]


def test_inputs_without_ids():
    network = make_network(
        num_agents=2, num_actions=3, obs_size=1, state_size=0, agent_ids=False
    )
    obs = torch.tensor([[[[5.0], [6.0]], [[7.0], [8.0]]]])
    actions = torch.tensor([[[2, 0]]])
    assert network.input_size == 4
    assert network.inputs(obs, actions).tolist() == [
        [[[5.0, 0, 0, 0], [6.0, 0, 0, 0]], [[7.0, 0, 0, 1], [8.0, 1, 0, 0]]]
    ]


def test_inputs_without_the_last_action():
    network = make_network(
        num_agents=2, num_actions=3, obs_size=1, state_size=0, obs_last_action=False
    )
    obs = torch.tensor([[[[5.0], [6.0]], [[7.0], [8.0]]]])
    actions = torch.tensor([[[2, 0]]])
    assert network.input_size == 3
    assert network.inputs(obs, actions).tolist() == [
        [[[5.0, 1, 0], [6.0, 0, 1]], [[7.0, 1, 0], [8.0, 0, 1]]]
    ]


def cell_of(encoder, rnn_cell):
    """A function of one step: fc1, a cell, and the features that the head reads."""
    kind = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[rnn_cell]
    cell = kind(*encoder.fc1.weight.shape[:1] * 2).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({n: getattr(encoder.body, f"{n}_l0") for n in names})
    state = None

    def step(x):
        nonlocal state
        state = cell(torch.relu(encoder.fc1(x))[None], state)
        return state[0] if rnn_cell == "gru" else torch.relu(state[0][0])

    return step


@torch.no_grad()
def reference(network, obs, actions):
    """Utilities and levels of RMIX: one agent, one step, one action at a time."""
    options, sizes = network.options, network.sizes
    num_levels, num_atoms = len(network.level.levels), network.num_atoms
    rnn_cell = network.agents[0].encoder.cell
    utilities = torch.zeros(*obs.shape[:3], sizes.num_actions, dtype=obs.dtype)
    levels = torch.zeros(obs.shape[:3], dtype=torch.int64)
    for b, i in itertools.product(range(obs.shape[0]), range(sizes.num_agents)):
        agent = network.agents[i if len(network.agents) > 1 else 0]
        encode = cell_of(agent.encoder, rnn_cell)
        remember = cell_of(agent.predictor.history, rnn_cell)
        x_before = None
        for t in range(obs.shape[1]):
            x = torch.zeros(network.input_size, dtype=obs.dtype)
            x[: sizes.obs_size] = obs[b, t, i]
            ids_from = sizes.obs_size
            if options.obs_last_action:
                ids_from += sizes.num_actions
                if t > 0:
                    x[sizes.obs_size + actions[b, t - 1, i]] = 1
            if options.agent_ids:
                x[ids_from + i] = 1
            lags = network.level.history_lag and t > 0
            now = agent.head(encode(x)).flatten()  # [A * M]
            expected = agent.head(remember(x_before if lags else x)).flatten()
            x_before = x
            predictor = agent.predictor
            per_level = predictor.embed_history.weight @ expected
            per_level = per_level.reshape(predictor.embed_dim, num_levels)
            if predictor.embed_current is None:
                current = predictor.embed_history.weight @ now
                current = current.reshape(predictor.embed_dim, num_levels)
            else:
                current = predictor.embed_current.weight @ now
                current = current[:, None].expand(-1, num_levels)
            logits = (current * per_level).sum(0) * agent.encoder.feature_size**-0.5
            k = int(logits.argmax())
            levels[b, t, i] = k
            kept = -(-(k + 1) * num_atoms // num_levels)
            for a in range(sizes.num_actions):
                atoms = sorted(now.reshape(-1, num_atoms)[a].tolist())
                utilities[b, t, i, a] = sum(atoms[:kept]) / kept
    return utilities, levels


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"risk_tie_femb": True},
        {"risk_history_lag": 0},
        {"parameter_sharing": False},
        {"num_atoms": 7, "risk_levels": 3, "risk_embed_dim": 5},
        {"rnn_cell": "lstm"},
        {"rnn_cell": "lstm", "risk_tie_femb": True},
        {"rnn_cell": "lstm", "parameter_sharing": False, "agent_ids": False},
        {"obs_last_action": False},
    ],
    ids=lambda keys: "-".join(keys) or "default",
)
def test_utilities_against_a_step_by_step_reference(keys):
    network = make_network(**{**RISK, **keys}, mixer="vdn").double()
    obs, _, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    expected, levels = reference(network, obs, actions)
    assert len(levels.unique()) > 1
    assert torch.equal(encoded.level_logits.argmax(dim=-1), levels)
    # cvar_weights are float32: 1/3 is off by 1e-8.
    tolerance = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(all_utilities(network, encoded), expected, **tolerance)
    chosen = expected.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    for guard in (torch.enable_grad, torch.no_grad):
        with guard():
            got = network.utilities_of(encoded, actions)
        torch.testing.assert_close(got.detach(), chosen, **tolerance)


VARIANTS = {
    "iql": {},
    "static": STATIC,
    "dynamic": RISK,
    "frozen": {**RISK, "risk_grad": "frozen"},
    "no lag": {**RISK, "risk_history_lag": 0},
    "tied": {**RISK, "risk_tie_femb": True},
    "sampled": {"num_atoms": 6, "quantiles": "sampled"},
}
BODIES = {
    "gru": {},
    "lstm": {"rnn_cell": "lstm"},
    "lstm without ids": {"rnn_cell": "lstm", "agent_ids": False},
    "none": {"recurrent": False},
    "no last action": {"obs_last_action": False},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("keys", VARIANTS.values(), ids=VARIANTS.keys())
def test_training_unroll_is_acting(keys, sharing, body):
    network = make_network(**keys, **body, parameter_sharing=sharing)
    obs, _, actions, mask = make_inputs(network, steps=6)
    encoded = unroll(network, obs, actions)
    expected = all_utilities(network, encoded)
    greedy = network.greedy_actions(encoded, mask)
    carry = network.initial_carry(3)
    assert all(not part.any() for part in carry)
    for t in range(6):
        decision, carry = network.step(obs[:, t], mask[:, t], carry)
        network.remember(carry, actions[:, t])
        legal = mask[:, t].bool()
        assert torch.isneginf(decision.utilities[~legal]).all()
        torch.testing.assert_close(decision.utilities[legal], expected[:, t][legal])
        chosen = decision.utilities.argmax(dim=-1)
        assert torch.equal(chosen, greedy[:, t])
        assert legal.gather(-1, chosen.unsqueeze(-1)).all()
        if encoded.level_logits is None:
            assert decision.level_index is None
        else:
            levels = encoded.level_logits[:, t].argmax(dim=-1)
            assert torch.equal(decision.level_index, levels)


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("keys", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_zeroed_carry_is_a_new_episode(keys, rnn_cell):
    network = make_network(**keys, rnn_cell=rnn_cell)
    obs, _, actions, mask = make_inputs(network, steps=6)
    carry = network.initial_carry(3)
    for t in range(3):
        _, carry = network.step(obs[:, t], mask[:, t], carry)
        network.remember(carry, actions[:, t])
    for part in carry:
        part[1] = 0.0
    fresh = network.initial_carry(3)
    for t in range(3, 6):
        decision, carry = network.step(obs[:, t], mask[:, t], carry)
        network.remember(carry, actions[:, t])
        other, fresh = network.step(obs[:, t], mask[:, t], fresh)
        network.remember(fresh, actions[:, t])
        assert torch.equal(decision.utilities[1], other.utilities[1])
        assert not torch.equal(decision.utilities[0], other.utilities[0])


def test_separate_agents_are_separate():
    network = make_network(**RISK, parameter_sharing=False)
    obs, _, actions, _ = make_inputs(network)
    before = all_utilities(network, unroll(network, obs, actions))
    with torch.no_grad():
        for parameter in network.agents[1].parameters():
            parameter.add_(1.0)
    after = all_utilities(network, unroll(network, obs, actions))
    assert torch.equal(before[:, :, [0, 2]], after[:, :, [0, 2]])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])


@pytest.mark.parametrize("num_atoms", [1, 10])
@pytest.mark.parametrize("sharing", [True, False])
def test_atoms_of_is_a_gather_of_atoms(num_atoms, sharing):
    network = make_network(num_atoms=num_atoms, parameter_sharing=sharing)
    obs, _, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    index = actions[..., None, None].expand(*actions.shape, 1, num_atoms)
    expected = network.atoms(encoded).gather(-2, index).squeeze(-2)
    got = network.atoms_of(encoded, actions)
    torch.testing.assert_close(got, expected)
    parameters = list(network.parameters())
    for left, right in zip(
        torch.autograd.grad(got.square().sum(), parameters, retain_graph=True),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(left, right)


def joint_values(network, utilities, state):
    """Value of every joint action: [B, T, J], and the joint actions [J, N]."""
    size = network.sizes
    joints = torch.tensor(
        list(itertools.product(range(size.num_actions), repeat=size.num_agents))
    )
    columns = [utilities[:, :, i, joints[:, i]] for i in range(size.num_agents)]
    each = torch.stack(columns, dim=-1)  # [B, T, J, N]
    states = state.unsqueeze(2).expand(-1, -1, len(joints), -1)
    actions = joints.expand_as(each)
    return network.mixer(MixerInputs(each, states, actions)).squeeze(-1), joints


IGM_CASES = [
    {"mixer": "qmix"},
    {"mixer": "vdn"},
    {"mixer": "qmix", **RISK},
    {"mixer": "vdn", **RISK},
    {"mixer": "qmix", **STATIC},
    {"mixer": "vdn", **STATIC},
    {"mixer": "qmix", "rnn_cell": "lstm", "agent_ids": False},
]


@pytest.mark.parametrize(
    "keys",
    IGM_CASES,
    ids=["qmix", "vdn", "rmix", "rdn", "rmix-static", "rdn-static", "qmix-lstm"],
)
def test_joint_argmax_is_every_agents_own(keys):
    """R4: IGM by enumeration, 28 nets of 40 states each: 1120 states per case."""
    clear = 0
    for seed in range(28):
        num_agents, num_actions = 2 + seed % 3, 2 + seed % 4
        network = make_network(
            seed,
            num_agents=num_agents,
            num_actions=num_actions,
            mixing_embed_dim=8,
            hypernet_embed_dim=8,
            **keys,
        )
        obs, state, actions, mask = make_inputs(network, episodes=8, seed=seed)
        encoded = unroll(network, obs, actions)
        utilities = all_utilities(network, encoded)
        with torch.no_grad():
            values, joints = joint_values(network, utilities, state)
        legal = torch.stack(
            [mask[:, :, i, joints[:, i]].bool() for i in range(num_agents)], dim=-1
        ).all(dim=-1)
        values[~legal] = -torch.inf
        best = values.topk(2, dim=-1)
        greedy = network.greedy_actions(encoded, mask)
        index = (joints == greedy.unsqueeze(2)).all(dim=-1).int().argmax(dim=-1)
        of_greedy = values.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(of_greedy, best.values[..., 0])
        # Except for near ties, it is the same joint action, not only the same value.
        gap = best.values[..., 0] - best.values[..., 1] > 1e-3
        assert torch.equal(index[gap], best.indices[..., 0][gap])
        clear += int(gap.sum())
    assert clear > 800


@pytest.mark.parametrize("keys", [{}, RISK], ids=["vdn", "rdn"])
def test_additive_team_value_is_the_exact_sum(keys):
    """R4: VDN is additive to the last bit."""
    network = make_network(**keys, mixer="vdn")
    obs, state, actions, _ = make_inputs(network)
    utilities = network.utilities_of(unroll(network, obs, actions), actions)
    total = network.mixer(MixerInputs(utilities, state, actions))
    assert torch.equal(total, utilities.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
def test_lower_level_never_has_the_larger_best_value(mixer):
    # max_u C_tot(u; alpha) rises with alpha: every C_i does, and mixing is monotone.
    for seed in range(20):
        best = []
        for alpha in (0.1, 0.3, 0.5, 0.7, 1.0):
            network = make_network(
                seed, num_atoms=10, risk_measure="cvar", alpha=alpha, mixer=mixer
            )
            obs, state, actions, mask = make_inputs(network, seed=seed)
            encoded = unroll(network, obs, actions)
            greedy = network.greedy_actions(encoded, mask)
            with torch.no_grad():
                chosen = network.utilities_of(encoded, greedy)
                best.append(network.mixer(MixerInputs(chosen, state, greedy)))
        assert (torch.stack(best).diff(dim=0) >= -1e-4).all()


def team_values(network, obs, state, actions):
    encoded = unroll(network, obs, actions)
    chosen = network.utilities_of(encoded, actions)
    total = network.mixer(MixerInputs(chosen, state, actions)).detach()
    return all_utilities(network, encoded), total


@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
def test_level_one_is_the_plain_method_on_averaged_heads(mixer):
    static = {**STATIC, "alpha": 1.0}
    risky = make_network(**static, mixer=mixer)
    plain = make_network(mixer=mixer)
    state_dict = risky.state_dict()
    for key in ("agents.0.head.weight", "agents.0.head.bias"):
        state_dict[key] = state_dict[key].unflatten(0, (4, 10)).mean(dim=1)
    plain.load_state_dict(state_dict)
    inputs = make_inputs(plain)[:3]
    for left, right in zip(
        team_values(risky, *inputs), team_values(plain, *inputs), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mixer", ["vdn", "qmix"])
@pytest.mark.parametrize("keys", [RISK, STATIC], ids=["dynamic", "static"])
def test_one_atom_is_the_plain_method_exactly(mixer, keys):
    risky = make_network(**{**keys, "num_atoms": 1}, mixer=mixer)
    plain = make_network(mixer=mixer)
    missing = plain.load_state_dict(risky.state_dict(), strict=False)
    assert missing.missing_keys == []
    inputs = make_inputs(plain)[:3]
    for left, right in zip(
        team_values(risky, *inputs), team_values(plain, *inputs), strict=True
    ):
        assert torch.equal(left, right)


@pytest.mark.parametrize("keys", [{}, RISK], ids=["vdn", "rdn"])
def test_order_of_agents_does_not_matter_to_a_sum(keys):
    """R9: VDN and RDN, ids permuted."""
    network = make_network(**keys, mixer="vdn")
    obs, state, actions, mask = make_inputs(network)
    encoded = unroll(network, obs, actions)
    chosen = network.utilities_of(encoded, actions)
    total = network.mixer(MixerInputs(chosen, state, actions))
    greedy = network.greedy_actions(encoded, mask)
    order = [2, 0, 1]
    network.inputs.ids = network.inputs.ids[order]
    encoded = unroll(network, obs[:, :, order], actions[:, :, order])
    actions = actions[:, :, order]
    chosen = network.utilities_of(encoded, actions)
    permuted = network.mixer(MixerInputs(chosen, state, actions))
    torch.testing.assert_close(permuted, total)
    permuted = network.greedy_actions(encoded, mask[:, :, order])
    assert torch.equal(permuted, greedy[:, :, order])


def test_order_of_agents_in_qmix():
    """R9: QMIX, with the rows of its first layer permuted."""
    # The first layer's weights belong to agents by position: permuting them along with
    # the agents gives the same total.
    network = make_network(mixer="qmix", mixing_embed_dim=8)
    obs, state, actions, _ = make_inputs(network)
    total = team_values(network, obs, state, actions)[1]
    order = [2, 0, 1]
    network.inputs.ids = network.inputs.ids[order]
    last = network.mixer.hyper_w1[-1]
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            parameter.copy_(parameter.unflatten(0, (3, 8))[order].flatten(0, 1))
    moved = team_values(network, obs[:, :, order], state, actions[:, :, order])[1]
    torch.testing.assert_close(moved, total)


def test_only_legal_actions_are_greedy():
    network = make_network(**RISK)
    obs, _, actions, mask = make_inputs(network, episodes=50)
    greedy = network.greedy_actions(unroll(network, obs, actions), mask)
    assert mask.gather(-1, greedy.unsqueeze(-1)).all()


@pytest.mark.parametrize("key", ["risk_measure", "mixer", "joint_critic", "rnn_cell"])
def test_unknown_parts(key):
    with pytest.raises(ValueError, match=f"{key}.*'neutral'"):
        make_network(**{key: "neutral"})

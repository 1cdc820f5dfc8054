"""Mixers: sums, non-negative weights, and what is left unrestricted."""

import pytest
import torch

from rllib_risk.models.mixers import (
    MonotonicMixer,
    NoMixer,
    SumMixer,
    make_mixer,
    monotone_slopes,
)


def random_mixer(seed, num_agents=3, state_size=4, embed_dim=8):
    torch.manual_seed(seed)
    mixer = MonotonicMixer(num_agents, state_size, embed_dim, 16)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0, 1)
    return mixer


# N = 2, E = 32, hypernetworks of 64: 64 S + 64 + 64 * 64 + 64 (w1), 32 S + 32 (b1),
# 64 S + 64 + 64 * 32 + 32 (w2), 32 S + 32 + 32 + 1 (v): 192 S + 6465.
@pytest.mark.parametrize(("state_size", "count"), [(56, 17_217), (96, 24_897)])
def test_number_of_parameters(state_size, count):
    mixer = make_mixer("qmix", 2, state_size, 32, 64)
    assert sum(p.numel() for p in mixer.parameters()) == count


def test_width_48():
    mixer = make_mixer("qmix", 2, 56, 48, 64)
    assert sum(p.numel() for p in mixer.parameters()) == 22_177


def test_sum_is_exact_and_has_no_parameters():
    torch.manual_seed(0)
    mixer = make_mixer("vdn", 4, 0, 32, 64)
    assert isinstance(mixer, SumMixer)
    assert list(mixer.parameters()) == []
    utilities = torch.randn(6, 5, 4)
    state = torch.zeros(6, 5, 0)
    total = mixer(utilities, state)
    assert total.shape == (6, 5, 1)
    assert torch.equal(total[..., 0], utilities.sum(dim=-1))
    assert torch.equal(monotone_slopes(mixer, utilities, state), torch.ones(6, 5, 4))


def test_no_mixer_hands_the_utilities_on():
    mixer = make_mixer("none", 4, 0, 32, 64)
    assert isinstance(mixer, NoMixer)
    utilities = torch.randn(6, 5, 4)
    assert torch.equal(mixer(utilities, torch.zeros(6, 5, 0)), utilities)


def test_monotone_by_autograd():
    for seed in range(50):
        mixer = random_mixer(seed)
        utilities = 5 * torch.randn(8, 5, 3)
        state = torch.randn(8, 5, 4)
        # The hypernetworks do give negative numbers; their absolute value is used.
        assert (mixer.hyper_w1(state) < 0).any()
        assert (mixer.hyper_w2(state) < 0).any()
        slopes = monotone_slopes(mixer, utilities, state)
        assert (slopes >= 0).all()
        assert (slopes > 0).any()


def test_slope_by_hand():
    # d Q_tot / d q_i = sum_e W1[i,e] ELU'(z_e) w2[e], with ELU'(z) = min(1, exp(z)).
    mixer = random_mixer(0)
    utilities, state = torch.randn(1, 1, 3), torch.randn(1, 1, 4)
    w1 = mixer.hyper_w1(state).abs().reshape(3, 8)
    w2 = mixer.hyper_w2(state).abs().reshape(8)
    z = utilities.reshape(3) @ w1 + mixer.hyper_b1(state).reshape(8)
    expected = (w1 * (z.exp().clamp(max=1) * w2)).sum(dim=1)
    slopes = monotone_slopes(mixer, utilities, state).reshape(3)
    torch.testing.assert_close(slopes, expected)


def test_value_by_hand():
    mixer = random_mixer(1)
    utilities, state = torch.randn(2, 3, 3), torch.randn(2, 3, 4)
    total = mixer(utilities, state)
    assert total.shape == (2, 3, 1)
    for b in range(2):
        for t in range(3):
            s = state[b, t]
            w1 = mixer.hyper_w1(s).abs()  # agent i's weights are w1[8 i : 8 i + 8]
            expected = mixer.value(s).item()
            for e in range(8):
                z = mixer.hyper_b1(s)[e].item()
                z += sum(utilities[b, t, i] * w1[8 * i + e] for i in range(3)).item()
                hidden = z if z > 0 else torch.tensor(z).expm1().item()
                expected += hidden * mixer.hyper_w2(s).abs()[e].item()
            assert total[b, t].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_biases_may_be_negative():
    totals, biases = [], []
    for seed in range(20):
        mixer = random_mixer(seed)
        state = torch.randn(4, 5, 4)
        totals.append(mixer.value(state))
        biases.append(mixer.hyper_b1(state))
    assert (torch.stack(totals) < 0).any()
    assert (torch.stack(biases) < 0).any()


def test_mixers_that_cannot_be_made():
    with pytest.raises(ValueError, match="needs a state"):
        make_mixer("qmix", 2, 0, 32, 64)
    with pytest.raises(ValueError, match="'sum'"):
        make_mixer("sum", 2, 3, 32, 64)

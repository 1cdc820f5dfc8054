"""The implicit quantile head against the formula, one fraction at a time."""

import math

import pytest
import torch

from rllib_risk.networks.quantile_head import QuantileHead
from rllib_risk.ops.quantile import quantile_fractions, quantile_huber_loss


def make_head(seed=0, *, hidden_size=6, num_actions=3):
    torch.manual_seed(seed)
    head = QuantileHead(hidden_size, num_actions, 7).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.7)
    return head


def layer(linear, values):
    """A linear layer in plain Python."""
    return [
        sum(w * x for w, x in zip(row, values, strict=True)) + b
        for row, b in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    ]


def relu(values):
    return [max(value, 0.0) for value in values]


def quantiles_by_hand(head, features, tau):
    """IQN, Eq. 4: one quantile per action."""
    cosines = [math.cos(math.pi * j * tau) for j in range(head.embedding.in_features)]
    embedding = relu(layer(head.embedding, cosines))
    product = [f * e for f, e in zip(features, embedding, strict=True)]
    return layer(head.output, relu(layer(head.hidden, product)))


def test_forward_is_the_formula():
    head = make_head()
    features = torch.randn(4, 2, 6, dtype=torch.float64)
    fractions = torch.rand(4, 2, 7, dtype=torch.float64)
    quantiles = head(features, fractions)
    assert quantiles.shape == (4, 2, 3, 7)
    for b in range(4):
        for t in range(2):
            for m in range(7):
                tau = fractions[b, t, m].item()
                expected = quantiles_by_hand(head, features[b, t].tolist(), tau)
                # The frequencies are float32.
                assert quantiles[b, t, :, m].tolist() == pytest.approx(
                    expected, rel=1e-4, abs=1e-4
                )


def test_shared_fractions_are_the_same_for_every_row():
    head = make_head()
    features = torch.randn(4, 2, 6, dtype=torch.float64)
    fractions = torch.rand(7, dtype=torch.float64)
    expanded = head(features, fractions.expand(4, 2, 7))
    torch.testing.assert_close(head(features, fractions), expanded)


def test_of_actions_is_one_row_of_all_actions():
    head = make_head()
    features = torch.randn(4, 2, 6, dtype=torch.float64)
    actions = torch.randint(3, (4, 2))
    for fractions in (torch.rand(7).double(), torch.rand(4, 2, 7).double()):
        everything = head(features, fractions)
        chosen = head.of_actions(features, actions, fractions)
        assert chosen.shape == (4, 2, 7)
        for b in range(4):
            for t in range(2):
                assert torch.equal(chosen[b, t], everything[b, t, actions[b, t]])


def test_gradient_reaches_features_and_every_layer_but_not_other_actions():
    head = make_head()
    features = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    actions = torch.full((5,), 1)
    head.of_actions(features, actions, torch.rand(5, 7).double()).sum().backward()
    assert features.grad.abs().sum() > 0
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert not head.output.weight.grad[[0, 2]].any()


def test_embedding_for_acting_makes_the_same_quantiles():
    # An actor embeds its fixed fractions once and multiplies at every step.
    head = make_head()
    fractions = quantile_fractions(8).double()
    embedding = head.embed(fractions)
    assert embedding.shape == (8, 6)
    assert (embedding >= 0).all()
    features = torch.randn(5, 6, dtype=torch.float64)
    hidden = torch.relu(head.hidden(features[:, None] * embedding))
    expected = head(features, fractions).transpose(1, 2)
    torch.testing.assert_close(head.output(hidden), expected)


def test_frequencies_are_no_part_of_a_checkpoint():
    names = {"embedding", "hidden", "output"}
    assert {key.split(".")[0] for key in QuantileHead(4, 2, 5).state_dict()} == names


def test_it_learns_a_distribution_at_fractions_it_never_saw():
    # Uniform on [-1, 3]: the quantile at tau is 4 tau - 1. The targets are the
    # midpoint quantiles; the fractions are drawn again at every step.
    torch.manual_seed(1)
    head = QuantileHead(16, 1, 8)
    features = torch.ones(64, 16)
    targets = (4 * quantile_fractions(64) - 1).expand(64, -1)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(300):
        fractions = torch.rand(64, 8)
        quantiles = head(features, fractions).squeeze(1)
        optimizer.zero_grad()
        quantile_huber_loss(quantiles, targets, fractions, 0.05).mean().backward()
        optimizer.step()
    fractions = torch.tensor([0.1, 0.33, 0.5, 0.77, 0.9])
    learned = head(features[:1], fractions).flatten()
    torch.testing.assert_close(learned, 4 * fractions - 1, rtol=0, atol=0.15)


def test_without_the_hidden_layer():
    torch.manual_seed(0)
    options = QuantileHead.Options(quantile_hidden_layer=False, shared_fractions=True)
    head = QuantileHead(6, 3, 7, options).double()
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {
        "embedding",
        "output",
    }
    features = torch.randn(4, 2, 5, 6, dtype=torch.float64)
    actions = torch.randint(3, (4, 2, 5))
    # Fractions for the five agents of a step, for each agent, and for all rows.
    for fractions in (torch.rand(4, 2, 1, 7), torch.rand(4, 2, 5, 7), torch.rand(7)):
        fractions = fractions.double()
        everything = head(features, fractions)
        assert everything.shape == (4, 2, 5, 3, 7)
        products = features.unsqueeze(-2) * head.embed(fractions)
        expected = head.output(products).transpose(-1, -2)
        torch.testing.assert_close(everything, expected)
        chosen = head.of_actions(features, actions, fractions)
        index = actions[..., None, None].expand(4, 2, 5, 1, 7)
        torch.testing.assert_close(chosen, expected.gather(-2, index).squeeze(-2))

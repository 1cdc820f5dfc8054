"""Every algorithm's targets of a three-step episode, ended and truncated, by hand."""

import pytest
from critic_cases import pencil_returns, pencil_targets
from loss_cases import (
    GAMMA,
    composition,
    learning_parts,
    plain_batch,
    plain_networks,
)
from test_joint_losses import (
    ONLINE_CRITIC,
    TARGET_CRITIC,
    set_qtran_critic,
    wqmix_networks,
)
from test_losses import risk_batch, risk_networks
from test_robust_targets import constant_dual

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.parts.encoding import encode

# Rewards 1, 2, 3, gamma 0.5. Targets of the three steps of a truncated episode, and the
# last targets of an episode that ended. The comments give the next values. Tables:
# loss_cases.py, its critics: test_joint_losses.py, atoms and levels: test_losses.py.
PENCIL = {
    # After the steps the sums 10, 8, 7; 1 + 10 / 2, 2 + 8 / 2, 3 + 7 / 2.
    "VDN": ([6, 6, 6.5], 3),
    # In its last phase with the rewards of the estimator's lowest head:
    # test_group_dr.py::test_the_last_phase_learns_from_the_least_head
    "GroupDR": ([6, 6, 6.5], 3),
    # 26, 27, 23 of the mixer 2 q_0 + 3 q_1 + 2 s.
    "QMIX": ([14, 15.5, 14.5], 3),
    # Its default, QMIX+CQL: a penalty changes no target.
    "OfflineBaselines": ([14, 15.5, 14.5], 3),
    # 14, 23, 13: the same with the advantages of the duelling mixer.
    "QPLEX": ([8, 13.5, 9.5], 3),
    # Each agent its own: (6, 4), (1, 7), (4, 3), here step by step, agent by agent.
    "IndependentQ": ([4, 3, 2.5, 5.5, 5, 4.5], [3, 3]),
    # Means of the quantiles v / 2 and 3 v / 2 of the same: the mean over both agents.
    "LHIQN": ([3.5, 4, 4.75], 3),
    # The target network's own maxima, summed: 14, 10, 12.
    "MACQR": ([8, 7, 9], 3),
    # The same with lambda 0.85: G_2 = 3 + 12 / 2, G_1 = 2 + (0.15 * 10 + 0.85 * 9) / 2,
    # G_0 = 1 + (0.15 * 14 + 0.85 G_1) / 2; where the episode ended G_2 = 3.
    "PQN": ([4.844375, 6.575, 9], [3.760625, 4.025, 3]),
    # The same of the means, since the deviations from them are zero on average.
    "DDN": ([8, 7, 9], 3),
    # 2 q_0 + 3 q_1 + 2 s of these maxima, 6 and 8, 3 and 7, 9 and 3: 38, 31, 33.
    "DMIX": ([20, 17.5, 19.5], 3),
    # The same, since advantages of the best actions are zero.
    "DPLEX": ([20, 17.5, 19.5], 3),
    # Sums of the utilities 10, 8, 7, plus 2 s: V = 12, 12, 13, with lambda 0.6:
    # G_2 = 3 + 13 / 2, G_1 = 2 + (0.4 * 12 + 0.6 G_2) / 2, G_0 the same of 1 and G_1.
    "RiskQ": ([5.575, 7.25, 9.5], [4.99, 5.3, 3]),
    # Values at the predicted levels, 12, 10, 12; mixed 30, 31, 35.
    "RDN": ([7, 7, 9], 3),
    "RMIX": ([16, 17.5, 20.5], 3),
    # The joint critic's 19, 8, 10; the central mixer's 10, 10, 16.
    "QTRAN": ([10.5, 6, 8], 3),
    "OWQMIX": ([6, 7, 11], 3),
    "CWQMIX": ([6, 7, 11], 3),
    # Total variation at rho 0.2, v_min -10 and a dual variable eta that is the same
    # everywhere: w = 0.8 eta - (eta - V')+ - 2, with V' = 0 at a true end.
    # eta 11, V' = 14, 10, 12 (own maxima): w = 6.8, 5.8, 6.8, and -4.2.
    "RobustVDN": ([4.4, 4.9, 6.4], 0.9),
    # eta 32, V' = 38, 31, 33: w = 23.6, 22.6, 23.6, and -8.4.
    "RobustQMIX": ([12.8, 13.3, 14.8], -1.2),
    # eta 9, V' = 19, 8, 10 (the joint critic): w = 5.2, 4.2, 5.2, and -3.8.
    "RobustQTRAN": ([3.6, 4.1, 5.6], 1.1),
    # Lambda returns of each agent's Q, with lambda 0.5, gamma lambda = 0.25; worked out
    # in test_actor_critic_losses.py. An end changes the steps before it too.
    "COMA": ([3.5, 4.21875, 4, 4.875, 5, 4.5], [3.375, 4.125, 3.5, 4.5, 3, 3]),
    # Of the team's Q.
    "DOP": ([4.0390625, 4.65625, 4.625], [3.9375, 4.25, 3]),
    # V = 14, 10, 7 of the states: 3 + 7 / 2; 2 + (10 + 6.5) / 4; 1 + (14 + 6.125) / 4.
    "MAPPO": ([6.03125, 6.125, 6.5], [5.8125, 5.25, 3]),
    # Each agent's own values, which are those of COMA's actions.
    "IPPO": ([3.5, 4.21875, 4, 4.875, 5, 4.5], [3.375, 4.125, 3.5, 4.5, 3, 3]),
}
ETA = {"RobustVDN": 11.0, "RobustQMIX": 32.0, "RobustQTRAN": 9.0}


def networks_of(name):
    if name in ("RMIX", "RDN"):
        return risk_networks("qmix" if name == "RMIX" else "vdn")
    if name in ("OWQMIX", "CWQMIX"):
        return wqmix_networks(name)
    # Both agents read one table.
    kept = ("mixer", "joint_critic", "loss", "quantiles", "num_atoms")
    kept += ("shared_fractions", "quantile_hidden_layer", "sort_atoms")
    keys = {key: value for key, value in composition(name).items() if key in kept}
    networks = plain_networks(**keys)
    if "joint_critic" in keys:
        for network, numbers in zip(
            networks, (ONLINE_CRITIC, TARGET_CRITIC), strict=True
        ):
            set_qtran_critic(network.joint_critic, **numbers)
    return networks


def targets_of(name, terminated):
    """The targets, step by step and (where there are several) agent by agent."""
    if name in ("COMA", "DOP"):
        return pencil_targets(name.lower(), terminated)[0].flatten().tolist()
    if name in ("MAPPO", "IPPO"):
        return pencil_returns(name, terminated)[0].flatten().tolist()
    online, target = networks_of(name)
    batch = (risk_batch if name in ("RMIX", "RDN") else plain_batch)(terminated)
    double_q = config_class(name).fields()["double_q"].default
    encoded = encode(online, target, batch, double_q=double_q)
    keys = composition(name)
    if keys.get("loss") == "quantile":
        parts = learning_parts(**keys | {"gamma": GAMMA})
        view = parts.view((online, target), encoded, batch)
        return view.target_atoms[0].mean(dim=(-2, -1)).tolist()
    if name not in ETA:
        parts = learning_parts(**keys | {"gamma": GAMMA})
        view = parts.view((online, target), encoded, batch)
        return view.targets[0].flatten().tolist()
    assert (keys["target"], keys["rho"]) == ("tv", 0.2)
    parts = learning_parts(gamma=GAMMA, target="tv", rho=0.2, v_min=-10.0)
    view = parts.view((online, target), encoded, batch, constant_dual(ETA[name]))
    return view.targets[0].flatten().tolist()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_targets_line_up_in_time(name):
    """R6: a step's reward, its next value, and whether it has one."""
    cut_off, end = PENCIL[name]
    assert targets_of(name, False) == pytest.approx(cut_off, abs=1e-6)
    last = end if isinstance(end, list) else [end]
    ended = [*cut_off[: len(cut_off) - len(last)], *last]
    assert targets_of(name, True) == pytest.approx(ended, abs=1e-6)

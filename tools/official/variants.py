"""Compares with forks of PyMARL: weighted QMIX, QPLEX, DOP and RMIX."""

from __future__ import annotations

import numpy as np
import torch

from official.common import (
    UPDATES,
    Case,
    Logger,
    Names,
    Pair,
    make_policy,
    random_episodes,
)
from official.pymarl import (
    AGENT,
    COMA_CRITIC,
    MONOTONIC,
    SCHEME,
    arguments,
    compare_values,
    critic_pairs,
    halves,
    make_mac,
    their_batch,
    with_their_last_actions,
)
from rllib_risk.algorithms.actor_critic.policy import Rollouts
from rllib_risk.data.episodes import collate

CENTRAL: Names = [
    (r"central_agent\.fc1\.(.*)", r"joint_critic.encoder.fc1.\1"),
    (r"central_agent\.rnn\.(.*)", r"joint_critic.encoder.body.\1_l0"),
    (r"central_agent\.fc2\.(.*)", r"joint_critic.head.\1"),
    (r"central_mixer\.net\.(.*)", r"joint_critic.joint.\1"),
    (r"central_mixer\.V\.(.*)", r"joint_critic.value.\1"),
]
DUPLEX: Names = [
    (r"mixer\.hyper_w_final\.(.*)", r"mixer.weights.\1"),
    (r"mixer\.V\.(.*)", r"mixer.biases.\1"),
    (r"mixer\.si_weight\.key_extractors\.(.*)", r"mixer.keys.\1"),
    (r"mixer\.si_weight\.agents_extractors\.(.*)", r"mixer.agents.\1"),
    (r"mixer\.si_weight\.action_extractors\.(.*)", r"mixer.actions.\1"),
]
PREDICTOR: Names = [
    (r"agent\.r_fc1\.(.*)", r"agents.0.predictor.history.fc1.\1"),
    (r"agent\.r_rnn\.(.*)", r"agents.0.predictor.history.body.\1_l0"),
    (r"agent\.history\.(.*)", r"agents.0.predictor.embed_history.\1"),
    (r"agent\.current\.(.*)", r"agents.0.predictor.embed_current.\1"),
    (r"mixer\.hyper_moq\..*", None),
]
# RDN's learner has the networks of the mixer, but sums the values.
NO_MIXER: Names = [(r"mixer\.(?!hyper_moq).*", None)]
DOP_CRITIC: Names = [
    *COMA_CRITIC[:2],
    (r"critic\.fc3\.(.*)", r"critic.body.4.\1.actions"),
    (r"critic\.fc_v\.(.*)", r"critic.body.4.\1.value"),
    (r"mixer\.hyper_w_1\.(.*)", r"critic.first.\1"),
    (r"mixer\.hyper_w_final\.(.*)", r"critic.second.\1"),
    (r"mixer\.(hyper_b_1|V)\..*", None),
]


def compare_wqmix() -> None:
    """Compares OW-QMIX and CW-QMIX."""
    from learners.max_q_learner import MAXQLearner

    for name, optimistic in (("OWQMIX", True), ("CWQMIX", False)):
        args = arguments(
            mixer="qmix",
            central_loss=1,
            qmix_loss=1,
            w=0.1,
            hysteretic_qmix=optimistic,
            central_mixing_embed_dim=256,
            central_action_embed=1,
            central_mac="basic_central_mac",
            central_agent="central_rnn",
            central_rnn_hidden_dim=64,
            central_mixer="ff",
        )
        learner = MAXQLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
        online, target = halves(learner)
        online["central_agent"] = learner.central_mac.agent
        online["central_mixer"] = learner.central_mixer
        target["central_agent"] = learner.target_central_mac.agent
        target["central_mixer"] = learner.target_central_mixer
        names = AGENT + MONOTONIC + CENTRAL
        compare_values(name, name, learner, names, (online, target))


def compare_qplex() -> None:
    """Compares QPLEX with both of its importance networks."""
    from learners.dmaq_qatten_learner import DMAQ_qattenLearner

    if not torch.cuda.is_available():
        # The released learner always moves one tensor to the GPU.
        torch.Tensor.cuda = lambda tensor, *_: tensor  # type: ignore[method-assign]
    for layers, heads in ((1, 4), (3, 10)):
        args = arguments(
            mixer="dmaq",
            adv_hypernet_layers=layers,
            adv_hypernet_embed=64,
            num_kernel=heads,
            is_minus_one=True,
            weighted_head=True,
        )
        learner = DMAQ_qattenLearner(
            make_mac("basic_mac", args), SCHEME, Logger(), args
        )
        compare_values(
            f"QPLEX, {layers} layers, {heads} heads",
            "QPLEX",
            learner,
            AGENT + DUPLEX,
            halves(learner),
            qplex_lambda_layers=layers,
            qplex_heads=heads,
        )


def compare_dop() -> None:
    """Compares DOP, with a gradient clip that acts and one that does not."""
    from learners.offpg_learner import OffPGLearner

    for limit, epsilon, available in ((20.0, 0.0, 0.6), (0.5, 0.3, 1.0)):
        args = arguments(
            agent_output_type="pi_logits",
            action_selector="multinomial",
            epsilon_start=epsilon,
            epsilon_finish=epsilon,
            critic_lr=1e-4,
            td_lambda=0.8,
            tb_lambda=0.93,
            step=5,
            grad_norm_clip=limit,
        )
        learner = OffPGLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)
        policy = make_policy(
            "DOP", initial_epsilon=epsilon, final_epsilon=epsilon, grad_clip=limit
        )
        title = f"DOP, limit {limit:g}, {available:.0%} available"
        case = Case(title, critic_pairs(learner, policy, DOP_CRITIC))
        for step in range(UPDATES):
            on, off, latest = (
                random_episodes(10 * step + k, available) for k in range(3)
            )
            policy.update_index = step
            both = with_their_last_actions(policy, [*on, *off], 0)
            keys = ("critic_loss", "critic_grad_norm", "td_error_abs", "q_taken_mean")
            more = ("target_mean", "q_max_mean", "q_min_mean", "q_max_var", "q_min_var")
            log: dict[str, list] = {key: [] for key in keys + more}
            learner.train_critic(both[: len(on)], both[len(on) :], log)
            # The actor's loss adds gradients to the mixer, which no step uses.
            mixing = [(p, p.grad) for p in learner.mixer.parameters()]
            mixing = [(p, g if g is None else g.clone()) for p, g in mixing]
            learner.train(their_batch(latest), step, log)
            for parameter, gradient in mixing:
                parameter.grad = gradient
            stats, _ = policy.learn(Rollouts(on, off, latest))
            case.add(learner.logger.last["coma_loss"], stats["actor_loss"])
            norm = float(np.mean(log["critic_grad_norm"]))
            case.add(norm, stats["critic_grad_norm"])
        case.show()


def compare_rmix() -> None:
    """Compares RMIX and RDN.

    With 50 or more atoms, float32 rounding keeps one atom too many at two risk levels.
    """
    for name in ("RMIX", "RDN"):
        for atoms in (20, 50, 100, 200):
            compare_quantiles(name, atoms)


def compare_quantiles(name: str, atoms: int) -> None:
    """Compares TD and quantile steps in turns, with two Adams for all parameters."""
    from learners.rmix_learner import RMIXLearner

    args = arguments(
        agent="rnn_agent_rmix",
        mixer="rmix",
        mixing_embed_dim=48,
        num_atoms=atoms,
        batch_size=len(random_episodes(0)),
        n_step=1,
        qr_lr=5e-5,
        qr_update_interval=1,
        use_masked_out_distribution=True,
        use_masked_out_distribution_real=False,
        alpha_risk_static=False,
        risk_level_range=10,
        cvar_vdn=name == "RDN",
        version="",
    )
    args.start_to_update_qr = 0
    learner = RMIXLearner(make_mac("risk_mac", args), SCHEME, Logger(), args)
    policy = make_policy(name, preset="rmix_official", num_atoms=atoms)
    names = AGENT + PREDICTOR + (MONOTONIC if name == "RMIX" else NO_MIXER)
    ours = ({"": policy.network}, {"": policy.target_network})
    pairs = [Pair(t, o, names) for t, o in zip(halves(learner), ours, strict=True)]
    case = Case(f"{name} rmix_official, {atoms} atoms", pairs)
    for step in range(UPDATES):
        quantiles, episodes = step % 2 == 1, random_episodes(step)
        args.start_to_update_qr = -1 if quantiles else 10**9
        learner.train(their_batch(episodes), step + 1, 0)
        if quantiles:
            stats = policy.learn_quantiles_on_batch(collate(episodes))
            case.add(learner.logger.last["qr_loss"], stats["qr_loss"])
        else:
            stats = policy.learn_on_batch(collate(episodes))
            case.add(learner.logger.last["cvar_loss"], stats["td_loss"])
    case.show()

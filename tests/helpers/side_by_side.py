"""Gradients and updates of several learners in one process, without Ray."""

import threading
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from rllib_risk.core.gradient import Share
from rllib_risk.core.learner_link import Link
from rllib_risk.core.learners import Call, contribute, merged, state_of
from rllib_risk.data.splitting import split_batch

LOCALHOST = "127.0.0.1"


def in_double(policy, samples):
    """Makes the policy double precision; returns the batch in double precision.

    Rounding is then negligible: a difference of 1e-6 is an error.
    """
    for module in policy.modules().values():
        module.double()
    single = {key: np.asarray(samples[key]) for key in samples}
    return {
        key: array.astype(np.float64) if array.dtype == np.float32 else array
        for key, array in single.items()
    }


def gradient_error(policy, samples, method="learn_on_batch", *args, learners=2):
    """Difference between the sum of the learners' gradients and one learner's.

    The policy must not clip gradients. At the end it makes one step on the whole batch.

    Returns:
        The norm of the difference, as a share of the norm of the gradient.
    """
    assert policy.config["grad_clip"] is None
    sums, samples = None, in_double(policy, samples)

    def add_up(gradients):
        nonlocal sums
        own = torch.cat([gradient.flatten() for gradient in gradients])
        sums = own if sums is None else sums + own
        return False

    for part, rows in split_batch(samples, learners):
        policy.share = Share(rows, add_up, copy=None)
        getattr(policy, method)(part, *args)
    policy.share = None
    getattr(policy, method)(samples, *args)
    learns = policy.dual if method == "learn_dual_on_batch" else policy.network
    whole = [p.grad.flatten() for p in learns.parameters() if p.grad is not None]
    gradient = torch.cat(whole)
    return ((sums - gradient).norm() / gradient.norm()).item()


def learn_side_by_side(policies, samples, method="learn_on_batch"):
    """Makes one update with connected learners, each in a thread.

    Returns:
        The merged log of all learners.
    """
    number = len(policies)
    parts = split_batch(samples, number)
    logged, errors = [None] * number, []
    limit = timedelta(seconds=60)
    server = dist.TCPStore(LOCALHOST, 0, is_master=True, wait_for_workers=False)

    def learn(rank):
        store = server
        if rank:
            store = dist.TCPStore(LOCALHOST, server.port, timeout=limit)
        link = Link(store, rank, number, LOCALHOST, torch.device("cpu"))
        link.copy(list(state_of(policies[rank])))
        call = Call(method, parts[rank][0], (), parts[rank][1], 0, True, 0)
        try:
            logged[rank] = contribute(policies[rank], call, link)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return merged(logged, [rows.weight for _, rows in parts])

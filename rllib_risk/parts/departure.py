"""Statistics of how far a policy departs from its dataset."""

from __future__ import annotations

import torch

from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.view import View


@torch.no_grad()
def log_departure(view: View) -> None:
    """Logs how far the greedy actions depart from the actions in the dataset.

    It logs the values of both actions and how often they agree. Values are the means of
    each agent's atoms. With losses ``bc`` and ``icq`` they are logits of the policy.

    Args:
        view: The batch.
    """
    means = view.network.atoms(view.online).mean(dim=-1)  # [B, T, N, A]
    best = mask_utilities(means, view.action_mask).amax(dim=-1)
    data = means.gather(-1, view.actions.unsqueeze(-1)).squeeze(-1)
    view.log("q_max_mean", view.mean(best))
    view.log("q_data_mean", view.mean(data))
    view.log("ood_gap", view.mean(best - data))
    view.log("data_agreement", view.mean((data >= best).float()))

"""How far a policy departs from the data that it learns from."""

from __future__ import annotations

import torch

from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.view import View


@torch.no_grad()
def log_departure(view: View) -> None:
    """Logs the values of the data's actions and of the best ones, and how often both
    are the same.

    Values are means of each agent's atoms; of a policy's logits (losses ``bc`` and
    ``icq``) they are logits.

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

"""On a mediocre log MA-CQR beats cloning and quantiles without the penalty.

Only the losses and networks are tested, on a game of four steps. In the log each agent
took action 0, which costs 2, in seven of ten steps, and action 1, which costs 1, in
three. The six other actions cost 5 each and are not in the log. The best return of the
two agents is -8, that of the frequent action -16, and the worst -40. Without a penalty,
values of actions that were never taken stay near zero, which is above every return.
"""

import copy

import pytest
import torch

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.team import TeamNetwork

LENGTH, ACTIONS, EPISODES = 4, 8, 200
EARNED = torch.tensor([-2.0, -1.0] + [-5.0] * (ACTIONS - 2))


pytestmark = pytest.mark.usefixtures("one_thread")


def mediocre_log():
    generator = torch.Generator().manual_seed(0)
    actions = (torch.rand(EPISODES, LENGTH, 2, generator=generator) < 0.3).long()
    steps = torch.eye(LENGTH + 1).expand(EPISODES, -1, -1)
    ends = torch.zeros(EPISODES, LENGTH, 1)
    ends[:, -1] = 1.0
    return Batch(
        obs=steps.unsqueeze(2).expand(-1, -1, 2, -1),
        state=steps,
        action_mask=torch.ones(EPISODES, LENGTH + 1, 2, ACTIONS),
        actions=actions,
        rewards=EARNED[actions].sum(dim=-1, keepdim=True),
        terminateds=ends,
        mask=torch.ones_like(ends),
    )


def return_and_values(batch, seed, atoms=8, **keys):
    """Return of the greedy team, and the largest value of an agent's best action."""
    torch.manual_seed(seed)
    sizes = TeamSizes(2, ACTIONS, LENGTH + 1, LENGTH + 1)
    network_keys = dict(
        mixer="none" if keys["loss"] == "bc" else "vdn",
        num_atoms=atoms,
        hidden_size=32,
        recurrent=False,
        parameter_sharing=False,
        agent_ids=False,
        obs_last_action=False,
    )
    online = TeamNetwork(sizes, network_keys)
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), 5e-3)
    learning = Learning.of({"double_q": False, **keys})
    for _ in range(600):
        view = learning.view(online, target, batch, gamma=0.99, reward_scale=1.0)
        loss = learning.team_loss(view)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            pairs = zip(target.parameters(), online.parameters(), strict=True)
            for old, new in pairs:
                old.lerp_(new, 0.05)
    one = batch.obs[:1], batch.actions[:1]
    with torch.no_grad():
        values = online.atoms(online.unroll(online.inputs(*one)))[0, :-1].mean(dim=-1)
    greedy = EARNED[values.argmax(dim=-1)].sum().item()
    return greedy, values.amax(dim=-1).abs().max().item()


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ma_cqr_beats_cloning_and_plain_quantiles(seed):
    """R36: MA-CQR also has values within the range of possible returns."""
    batch = mediocre_log()
    ours, largest = return_and_values(
        batch, seed, loss="quantile", conservative_weight=0.03
    )
    cloned, _ = return_and_values(batch, seed, atoms=1, loss="bc")
    plain, _ = return_and_values(batch, seed, loss="quantile")
    assert (ours, cloned) == (-8.0, -16.0) and plain < -8.0
    assert largest < 8.0  # the part of one agent is about half of that

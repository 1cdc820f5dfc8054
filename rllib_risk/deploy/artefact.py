"""An artefact in memory: the contract of the team, and its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.deploy.contract import Contract
from rllib_risk.deploy.errors import ArtefactError
from rllib_risk.deploy.files import TENSORS, read_policy, read_tensors
from rllib_risk.deploy.graph import Decide, Graph


@dataclass(frozen=True)
class Artefact:
    """An exported team.

    Attributes:
        folder: The folder that it was read from.
        policy: The contents of ``policy.json``.
        contract: The inputs that the team takes and the actions that it returns.
        networks: One network for all agents, or one for each.
        memory: Memory of each agent when an episode begins, float32 ``[N, C]``.
        first_action: Last action that the network reads when an episode begins; -1:
            none.
    """

    folder: Path
    policy: Mapping[str, Any]
    contract: Contract
    networks: tuple[Decide, ...]
    memory: np.ndarray
    first_action: int

    @classmethod
    def load(cls, folder: Path | str) -> Artefact:
        """Reads an artefact; no code of it is run.

        Args:
            folder: The folder that ``rllib export`` wrote.

        Raises:
            ArtefactError: If it is missing, damaged, or of a later version.
        """
        folder, policy = read_policy(folder)
        try:
            tensors = read_tensors(folder / TENSORS)
            memory = tensors.pop("memory")
            artefact = cls(
                folder,
                policy,
                Contract.read(policy["contract"]),
                _networks(folder, policy, tensors),
                memory,
                policy["first_action"],
            )
            artefact.probe()
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise ArtefactError(
                f"{folder} has contents that this version cannot read"
                f" ({type(error).__name__}: {error}). Export the team again, or install"
                " the version that wrote it."
            ) from error
        return artefact

    @property
    def stochastic(self) -> bool:
        """Whether the team learned to sample its actions (COMA, DOP, MAPPO, IPPO)."""
        return bool(self.policy["stochastic"])

    def network_of(self, agent: int) -> Decide:
        """Returns the network of an agent.

        Args:
            agent: Index of the agent.
        """
        return self.networks[agent if len(self.networks) > 1 else 0]

    def inputs(
        self, agents: np.ndarray, memory: np.ndarray, last_action: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of networks that the user does not give.

        Args:
            agents: Index of each row's agent, int64 ``[R]``.
            memory: Memory of each row, ``[R, C]``.
            last_action: Last action of each row, int64 ``[R]``; -1: none.
        """
        return {"agent": agents, "memory": memory, "last_action": last_action}

    def probe(self) -> None:
        """Runs the network of every agent once, to find wrong shapes when loading.

        Raises:
            ArtefactError: If the outputs of a network do not fit the contract.
        """
        contract = self.contract
        for agent in range(len(contract.agents)):
            rows = np.array([agent], np.int64)
            given = self.inputs(rows, self.memory[rows], np.array([-1], np.int64))
            given["obs"] = np.zeros((1, contract.obs_size), np.float32)
            given["action_mask"] = np.ones((1, contract.num_actions), bool)
            given["return_so_far"] = np.zeros(1)
            out = self.network_of(agent)(given)
            shapes = {name: out[name].shape for name in ("action", "utilities")}
            if shapes != {"action": (1,), "utilities": (1, contract.num_actions)}:
                raise ArtefactError(
                    f"{self.folder}: the network of agent {agent} returns shapes"
                    f" {shapes}, which do not fit the contract. Export the team again."
                )
            if out["next_memory"].shape != (1, self.memory.shape[1]):
                raise ArtefactError(
                    f"{self.folder}: the network of agent {agent} returns a memory of"
                    f" shape {out['next_memory'].shape}, not"
                    f" {(1, self.memory.shape[1])}. Export the team again."
                )


def _networks(
    folder: Path, policy: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> tuple[Decide, ...]:
    if "onnx" in policy:
        from rllib_risk.deploy.onnx_session import OnnxSession

        return tuple(OnnxSession(folder / name) for name in policy["onnx"]["files"])
    return tuple(Graph(record, tensors) for record in policy["networks"])

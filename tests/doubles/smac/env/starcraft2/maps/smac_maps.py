"""Maps of SMAC, with its numbers of units and steps. Health is made up."""


def _map(n_agents, n_enemies, limit, health=45, shield=0):
    return {
        "n_agents": n_agents,
        "n_enemies": n_enemies,
        "limit": limit,
        "health": health,
        "shield": shield,
    }


MAPS = {
    "3m": _map(3, 3, 60),
    "5m_vs_6m": _map(5, 6, 70),
    "8m_vs_9m": _map(8, 9, 120),
    "10m_vs_11m": _map(10, 11, 150),
    "MMM2": _map(10, 12, 180),
    "1c3s5z": _map(9, 9, 180),
    "3s_vs_5z": _map(3, 5, 250),
    "corridor": _map(6, 24, 400),
    # Not a map of SMAC: a duel with a shield and four steps.
    "1z": _map(1, 1, 4, health=100, shield=50),
}


def get_smac_map_registry():
    return MAPS

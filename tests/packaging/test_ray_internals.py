"""Only two modules, named ``..._internals.py``, use private names of Ray."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "rllib_risk"
INTERNALS = [PACKAGE / f"core/{name}_internals.py" for name in ("ray", "tune")]

# Modules of Ray's public API, and those of the classes that this package extends.
PUBLIC = {
    "ray",
    "ray.cluster_utils",
    "ray.exceptions",
    "ray.rllib.core.rl_module.default_model_config",
    "ray.rllib.env.wrappers.pettingzoo_env",
    "ray.tune",
    "ray.tune.experiment",
    "ray.tune.schedulers",
    "ray.tune.search",
}
EXTENDED = {
    "ray.rllib.algorithms.algorithm",
    "ray.rllib.algorithms.algorithm_config",
    "ray.rllib.callbacks.callbacks",
    "ray.rllib.env.env_context",
    "ray.rllib.env.env_runner_group",
    "ray.rllib.evaluation.rollout_worker",
    "ray.rllib.models",
    "ray.rllib.models.torch.torch_modelv2",
    "ray.rllib.policy.policy",
    "ray.rllib.policy.sample_batch",
    "ray.rllib.policy.torch_policy_v2",
}
# Attributes of Ray's objects whose names have no underscore, but which Ray's
# documentation leaves out.
PRIVATE = {"checkpoint_manager", "run_metadata", "temporary_state", "trial_fs_path"}
# Private attributes of torch, of named tuples, of os, and of SMAC.
FOREIGN = {"_foreach_lerp_", "_version", "_replace", "_exit"} | {
    "_seed",
    "_episode_count",
    "_run_config",
}
# Private methods of Ray's classes that this package overrides on purpose.
OVERRIDDEN = {"_get_env_id_and_creator", "_validate_callbacks_settings"}


def defined(trees):
    """Names of all functions and variables, and of attributes that are assigned."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def uses(tree, own, ray_private):
    """Uses of Ray's internals in a module, as ``line: name``."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(node.module, alias.name) for alias in node.names]
        for module, name in names:
            if module.split(".")[0] != "ray":
                continue
            if module not in PUBLIC | EXTENDED or name.startswith("_"):
                yield f"{node.lineno}: {module} {name}".rstrip()
        if isinstance(node, ast.Attribute):
            private = node.attr.startswith("_") and not node.attr.startswith("__")
            unknown = private and node.attr not in own | FOREIGN
            if unknown or node.attr in PRIVATE | ray_private:
                yield f"{node.lineno}: .{node.attr}"


@pytest.fixture(scope="module")
def modules():
    files = sorted(PACKAGE.rglob("*.py"))
    return {file: ast.parse(file.read_text("utf-8")) for file in files}


@pytest.fixture(scope="module")
def ray_private():
    """Private attributes of Ray that the modules of internals use."""
    trees = [ast.parse(file.read_text("utf-8")) for file in INTERNALS]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    private = {name for name in names if name.startswith("_")}
    assert {"_counters", "_worker_manager"} <= private
    return private


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from ray.tune.registry import _global_registry", "ray.tune.registry _global"),
        ("from ray.tune import _private", "ray.tune _private"),
        ("import ray._private.worker", "ray._private.worker"),
        ("def f(trial): return trial.temporary_state", ".temporary_state"),
        ("def f(self): self._counters = {}", "._counters"),
        ("def f(group): return group._remote_workers", "._remote_workers"),
    ],
)
def test_the_check_finds_each_kind(line, found, ray_private):
    (use,) = uses(ast.parse(line), {"_counters"}, ray_private)
    assert use.startswith(f"1: {found}")


def test_internals_of_ray_are_used_in_their_modules(modules, ray_private):
    own = defined(tree for file, tree in modules.items() if file not in INTERNALS)
    found = [
        f"{file.relative_to(PACKAGE)}:{use}"
        for file, tree in modules.items()
        if file not in INTERNALS
        for use in uses(tree, own, ray_private)
    ]
    assert found == []


def test_no_private_method_of_rllib_is_replaced_by_chance():
    from rllib_risk.algorithms import ALGORITHMS, algorithm_class
    from rllib_risk.core.model import TeamModel
    from rllib_risk.core.rollout_worker import TeamRolloutWorker

    algorithms = [algorithm_class(name) for name in ALGORITHMS]
    configs = [algorithm.config_class for algorithm in algorithms]
    policies = [algorithm.policy_class for algorithm in algorithms]
    replaced = set()
    for cls in (*algorithms, *configs, *policies, TeamModel, TeamRolloutWorker):
        ours, theirs = set(), set()
        for parent in cls.__mro__:
            names = {name for name in vars(parent) if name.startswith("_")}
            names = {name for name in names if not name.endswith("__")}
            if parent.__module__.startswith("rllib_risk."):
                ours |= names
            elif parent.__module__.startswith("ray."):
                theirs |= names
        replaced |= ours & theirs
    assert replaced - {"_abc_impl"} == OVERRIDDEN

"""Packages of extras that tests need. The development tools bring all of them."""

from collections.abc import Mapping
from typing import Any

import pytest

# By name of an env, which is that of the extra: the package's module.
PACKAGES = {
    "lbf": "lbforaging",
    "mpe": "mpe2",
    "rware": "rware",
    "vmas": "vmas",
}
# Modules that need a package beside the one that they are of.
DRAWN = {"pettingzoo.butterfly": "pygame"}


def need_extra(env: object, env_config: Mapping[str, Any] | None = None) -> None:
    """Skips a test whose env needs a package that is not installed.

    Args:
        env: Name of the env; others than those of the table need nothing.
        env_config: Of `pettingzoo` and `gymnasium`, whose factory or id may be of one
            of the packages.
    """
    package = PACKAGES.get(str(env))
    for key in ("factory", "id"):
        module = str((env_config or {}).get(key)).partition(":")[0].partition(".")[0]
        if module in PACKAGES.values():
            package = module
        for drawn, needed in DRAWN.items():
            if str((env_config or {}).get(key)).startswith(drawn):
                package = needed
    if package is not None:
        pytest.importorskip(package, reason=f"needs the package {package}")

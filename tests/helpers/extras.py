"""Packages of extras that tests need. The development tools include all of them."""

from collections.abc import Mapping
from typing import Any

import pytest

# Name of the env, which is also that of the extra -> module of the package.
PACKAGES = {
    "lbf": "lbforaging",
    "mpe": "mpe2",
    "rware": "rware",
    "vmas": "vmas",
}
# Start of a module's name -> another package that the module needs.
DRAWN = {"pettingzoo.butterfly": "pygame"}


def need_extra(env: object, env_config: Mapping[str, Any] | None = None) -> None:
    """Skips a test whose env needs a package that is not installed.

    Args:
        env: Name of the env. Names outside `PACKAGES` need no package.
        env_config: Configuration of the env. The factory of `pettingzoo` or the id of
            `gymnasium` may come from one of the packages.
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

"""Packages of extras that tests need. The development tools bring all of them."""

import pytest

# By name of an env, which is that of the extra: the package's module.
PACKAGES = {
    "lbf": "lbforaging",
    "mpe": "mpe2",
    "rware": "rware",
    "vmas": "vmas",
}


def need_extra(env: object, factory: object = None) -> None:
    """Skips a test whose env needs a package that is not installed.

    Args:
        env: Name of the env; others than those of the table need nothing.
        factory: Of env `pettingzoo`: the import path.
    """
    package = PACKAGES.get(str(env))
    if str(factory).startswith("mpe2."):
        package = "mpe2"
    if package is not None:
        pytest.importorskip(package, reason=f"needs the package {package}")

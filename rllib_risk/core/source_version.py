"""Version of the running code, and its git commit in a checkout."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import rllib_risk

_ROOT = Path(rllib_risk.__file__).resolve().parents[1]
_TIMEOUT_S = 10.0


def source_version() -> dict[str, Any]:
    """Returns version and git commit of the package, as they were at the first call.

    Returns:
        ``rllib_risk``, the version; ``git_commit``, 40 hexadecimal digits; and
        ``git_modified``, whether tracked files differed from it. The last two are None
        if the package is not a git checkout, or git cannot be run.
    """
    commit, modified = _commit_of(_ROOT)
    return {
        "rllib_risk": rllib_risk.__version__,
        "git_commit": commit,
        "git_modified": modified,
    }


@functools.cache
def _commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Returns the commit and whether files differ; None if it is no checkout."""
    # An installed package may lie inside another project's repository, for example in a
    # virtual environment. Only this project's checkout tracks the package at its top.
    top = _git(root, "rev-parse", "--show-toplevel")
    tracked = _git(root, "ls-files", "rllib_risk/__init__.py")
    if not top or Path(top).resolve() != root or not tracked:
        return None, None
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    commit = _git(root, "rev-parse", "HEAD")
    if not commit or changes is None:
        return None, None
    return commit, bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    """Output of git; None if it failed."""
    # Git sets variables such as GIT_DIR for hooks. They may name another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

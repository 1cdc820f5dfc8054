"""Compares this package's updates with those of a paper's released code.

Both learners get the same weights and batches. Their target networks also have equal
weights, which differ from those of the online networks. Both make several optimizer
steps. The released code comes from a checkout of its repository::

    python tools/compare_official.py pymarl ../pymarl
    python tools/compare_official.py wqmix ../wqmix
    python tools/compare_official.py qplex ../QPLEX
    python tools/compare_official.py dop ../DOP
    python tools/compare_official.py rmix ../RMIX
    python tools/compare_official.py dfac ../dfac-extended
    python tools/compare_official.py riskq ../RiskQ
    python tools/compare_official.py ma-cqr ../Conservative-and-Distributional-MARL
    python tools/compare_official.py robust ../robust-coMARL
    python tools/compare_official.py on-policy ../on-policy

The batches contain episodes that end, episodes that the time limit cuts off, and
padding. 60 % of the actions are available. The columns of the printed table are: the
largest relative difference of the losses over all steps; the same for the gradients (as
vectors, after clipping); and the largest absolute difference of the parameters after
the last step.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from types import ModuleType

from official.distributions import compare_dfac, compare_riskq
from official.ma_cqr import compare_ma_cqr
from official.on_policy import compare_on_policy
from official.pymarl import compare_pymarl
from official.robust import compare_robust
from official.variants import compare_dop, compare_qplex, compare_rmix, compare_wqmix

# Folder of the modules in the checkout, and the comparison, by name of the code.
CODES = {
    "pymarl": ("src", compare_pymarl),
    "wqmix": ("src", compare_wqmix),
    "qplex": ("pymarl-master/src", compare_qplex),
    "dop": ("src", compare_dop),
    "rmix": ("src", compare_rmix),
    "dfac": ("pymarl/src", compare_dfac),
    "riskq": ("RiskQ/src", compare_riskq),
    "ma-cqr": (".", compare_ma_cqr),
    "robust": (".", compare_robust),
    "on-policy": (".", compare_on_policy),
}


def main() -> None:
    """Compares updates with one released code."""
    parser = ArgumentParser(
        description="Compare updates with those of a paper's released code."
    )
    parser.add_argument("code", choices=CODES, help="name of the released code")
    parser.add_argument("path", type=Path, help="checkout of its repository")
    arguments_given = parser.parse_args()
    folder, compare = CODES[arguments_given.code]
    source = (arguments_given.path / folder).resolve()
    if not source.is_dir():
        parser.error(f"{source} does not exist. Give the root of the checkout.")
    sys.path.insert(0, str(source))
    # Skips the package's __init__, which in some releases imports a missing file.
    learners = ModuleType("learners")
    learners.__path__ = [str(source / "learners")]
    sys.modules["learners"] = learners
    print(f"{'':44} {'loss':>9} {'gradient':>9} {'weights':>9}")
    compare()


if __name__ == "__main__":
    main()

"""Module names that earlier versions documented can still be imported."""

import importlib

import pytest

from rllib_risk.moved import MOVED


@pytest.mark.parametrize("name", sorted(MOVED))
def test_an_old_name_is_the_module_of_today(name):
    with pytest.warns(DeprecationWarning, match=f"{name} is now {MOVED[name]}"):
        module = importlib.import_module(name)
    assert module is importlib.import_module(MOVED[name])
    assert module.__spec__.name == module.__name__ == MOVED[name]
    importlib.sys.modules.pop(name)

"""One importer for everything that a user names by path."""

import sys
from fractions import Fraction
from numbers import Number

import pytest

from rllib_risk.config.imports import import_module, import_path
from rllib_risk.config.schema import ConfigError
from rllib_risk.env_wrappers.errors import EnvConfigError

A_NUMBER = 3


def test_a_path_leads_to_a_class_or_a_function():
    assert import_path("fractions:Fraction", "key", Number) is Fraction
    assert import_path("math:sqrt", "key")(4) == 2
    assert import_path("fractions.Fraction", "key", dotted=True) is Fraction
    assert import_path("fractions:Fraction", "key", dotted=True) is Fraction


@pytest.mark.parametrize(
    ("path", "base", "message"),
    [
        ("cvarr", Number, "'cvarr' is not a known name.*form 'pkg.module:Class'"),
        ("fractions.Fraction", None, "must have the form 'pkg.module:name'"),
        (":Fraction", None, "must have the form"),
        ("fractions:", None, "must have the form"),
        (
            "no_such_package.risk:Mine",
            None,
            r"cannot import module 'no_such_package.risk' of "
            r"'no_such_package.risk:Mine': .*No module named.*PYTHONPATH",
        ),
        (".relative:Mine", None, "cannot import module '.relative' of"),
        (
            "fractions:Fracton",
            Number,
            "'fractions' has no class 'Fracton'. Did you mean 'Fraction'?",
        ),
        ("json:lods", None, "'json' has no callable 'lods'. Did you mean 'loads'?"),
        (f"{__name__}:A_NUMBER", None, "A_NUMBER' must be a class or a function"),
        (f"{__name__}:A_NUMBER", Number, "must be a subclass of numbers.Number"),
        ("json:JSONDecoder", Number, "must be a subclass of numbers.Number"),
    ],
)
def test_paths_that_lead_nowhere(path, base, message):
    with pytest.raises(ConfigError, match=f"^key: .*{message}"):
        import_path(path, "key", base)


def test_the_caller_chooses_the_type_of_the_error():
    for path in ("json", "no_such:f", "json:lods", f"{__name__}:A_NUMBER"):
        with pytest.raises(EnvConfigError, match=r"^factory: "):
            import_path(path, "factory", error=EnvConfigError)


def test_a_module_that_fails_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import surely_not_installed_anywhere\n")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "lazy.py").write_text("def __getattr__(name):\n    import no_such\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="surely_not_installed") as caught:
        import_path("needs_more:Mine", "key")
    assert "PYTHONPATH" not in str(caught.value)
    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero"):
        import_path("breaks:Mine", "key")
    assert "breaks" not in sys.modules
    with pytest.raises(ConfigError, match="key: cannot import module 'exits': System"):
        import_module("exits", "key")
    with pytest.raises(ConfigError, match="cannot import 'lazy:Mine': ModuleNotFound"):
        import_path("lazy:Mine", "key")

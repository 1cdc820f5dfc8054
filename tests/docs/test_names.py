"""The names in README and docs exist, and their lists are complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.cli.main import app
from rllib_risk.env_wrappers.registry import ENVS, envs_that_render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Names of other programs that pages use.
FOREIGN = {"--fast", "--list", "--no-deps", "--tests", "PPO", "CartPole"}
FOLDERS = "docs|tests|tools|benchmarks|rllib_risk|tuned_examples"


def commands() -> dict[str, set[str]]:
    """The commands, each with its options and those of its subcommands."""

    def options(node) -> set[str]:
        own = {o for p in node.params for o in (*p.opts, *p.secondary_opts)}
        return own.union(*map(options, getattr(node, "commands", {}).values()))

    top = typer.main.get_command(app)
    return {"": options(top)} | {n: options(c) for n, c in top.commands.items()}


def unknown(text: str) -> Iterator[str]:
    """The names in a page's inline code that do not exist."""
    known = commands()
    presets = {p for name in ALGORITHMS for p in config_class(name).presets}
    named = {
        r"\brun: ([A-Z]\w+)": ALGORITHMS,
        r"\benv: (\w+)": ENVS,
        r"\bpreset: (\w+)": presets,
        r"^rllib ([a-z][\w-]*)": known,
        r"(?<![\w-])(--[a-z][\w-]*)": known[""],
    }
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", prose):
        for pattern, names in named.items():
            for name in re.findall(pattern, code):
                if name not in names and name not in FOREIGN:
                    yield name
        command = re.match(r"rllib ([a-z][\w-]*)", code)
        if command and command[1] in known:
            for option in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", code):
                if option not in known[command[1]]:
                    yield f"rllib {command[1]} {option}"
        for path in re.findall(rf"(?<![\w./~-])((?:{FOLDERS})/[\w./-]+)", code):
            if not (ROOT / path).exists():
                yield path


def test_names_in_the_text_exist() -> None:
    found = [(page.name, name) for page in PAGES for name in unknown(page.read_text())]
    assert found == []
    wrong = "`run: RMIXX` `env: two_steps` `preset: rmx` `rllib trane` `--rendr`"
    wrong += " `rllib plot --shift` `docs/algorithms/robust.md`"
    assert len(list(unknown(wrong))) == 7


def test_the_lists_of_the_readme_are_whole() -> None:
    intro = README[README.index("## What it has") :].partition("\n## ")[0]
    pages = re.findall(r"\]\(docs/algorithms/(\w+)\.md\)", intro)
    modules = {name: path.rpartition(".")[2] for name, path in ALGORITHMS.items()}
    assert sorted(pages) == sorted(modules.values())
    environments = re.search(r"\*\*\[Environments\].*?\n- \*\*", intro, re.DOTALL)
    assert environments is not None
    named = set(re.findall(r"`([a-z_]+)`", environments[0]))
    assert named == set(ENVS)
    for command in commands():
        assert f"`{command}`" in intro or command == "", command
    # The table of docs/environments.md
    text = (ROOT / "docs" / "environments.md").read_text("utf-8")
    table = text[text.index("## Names") :].partition("###")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ENVS)


def test_the_envs_said_to_render_are_those_that_do() -> None:
    first_steps = (ROOT / "docs" / "first_steps.md").read_text("utf-8")
    sentence = first_steps.partition("that render -->")[2].partition(".")
    assert re.findall(r"`(\w+)`", sentence[0]) == envs_that_render()
    told = (ROOT / "docs" / "cli.md").read_text("utf-8").partition("that renders: ")[2]
    assert re.findall(r"`(\w+)`", told.partition(" or [")[0]) == envs_that_render()


def test_pages_have_no_planned_features() -> None:
    words = re.compile(r"\bplanned\b|not present\b|\bnot yet\b|filled from", re.I)
    found = [
        f"{page.name}: {line}"
        for page in PAGES
        for line in page.read_text("utf-8").splitlines()
        if words.search(line)
    ]
    assert found == []

"""Hooks of MkDocs: pages that are not in docs/, and links between all pages.

``make docs`` builds the site from docs/ and from the files of :data:`PAGES`, so that
each text exists once and reads well on GitHub too.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Files of the repository outside docs/, and where they are in the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "rllib_risk/env_wrappers/hvac/weather/ATTRIBUTION.md": "hvac_data.md",
    "LICENSE": "licence.md",
    "CITATION.cff": "citation.md",
}
PLAIN = {"LICENSE": "Licence", "CITATION.cff": "Citation"}
# The public Python API, by page.
REFERENCE = {
    "rllib_risk": ["rllib_risk"],
    "deploy": ["rllib_risk.deploy"],
    "offline": ["rllib_risk.offline"],
    "ops": [
        f"rllib_risk.ops.{path.stem}"
        for path in sorted((ROOT / "rllib_risk" / "ops").glob("[!_]*.py"))
    ],
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
# Roles of Sphinx in docstrings, after Markdown made code of their targets.
ROLE = re.compile(r":(?:class|func|meth|attr|data|mod|exc):<code>~?([^<]+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages from outside docs/ and those of the Python API.

    Args:
        files: The files of docs/.
        config: The configuration of MkDocs.

    Returns:
        All files of the site.
    """
    for name, uri in PAGES.items():
        text = (ROOT / name).read_text("utf-8")
        if name in PLAIN:
            text = f"# {PLAIN[name]}\n\n```text\n{text}```\n"
        files.append(File.generated(config, uri, content=text))
    for page, modules in REFERENCE.items():
        parts = [f"# `{modules[0] if len(modules) == 1 else 'rllib_risk.' + page}`"]
        parts += [f"::: {module}" for module in modules]
        text = "\n\n".join(parts) + "\n"
        files.append(File.generated(config, f"python/{page}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the links of a page, which are paths in the repository, into site links.

    Args:
        markdown: The text of the page.
        page: The page.

    Returns:
        The text with links that work in the site.
    """
    uri = page.file.src_uri
    origin = {site: name for name, site in PAGES.items()}.get(uri, f"docs/{uri}")

    def site_link(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        there = PAGES.get(path, path.removeprefix("docs/"))
        link = os.path.relpath(there, posixpath.dirname(uri) or ".")
        return f"{match[1]}{link}{'#' if anchor else ''}{anchor}{match[3]}"

    blocks = FENCE.split(markdown)
    blocks[::2] = [LINK.sub(site_link, text) for text in blocks[::2]]
    return "".join(blocks)


def on_page_content(html: str, **_: Any) -> str:
    """Drops Sphinx markup from docstrings: ``:class:`~a.B``` becomes ``B``.

    Args:
        html: The content of a page.

    Returns:
        The content without roles and without double colons before code.
    """
    html = ROLE.sub(lambda m: f"<code>{m[1].rpartition('.')[2]}</code>", html)
    return html.replace("::</p>", ":</p>")

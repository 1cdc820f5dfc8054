"""Finds results in folders and writes the report about them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import rllib_risk
from rllib_risk.evaluation.report import page
from rllib_risk.evaluation.report.training import training_sections
from rllib_risk.evaluation.results import ResultsError

# Tables that `rllib evaluate` writes, each with its figure.
_EVALUATIONS = {
    "shift.md": ("shift.png", "Evaluation under shift"),
    "off_policy.md": ("off_policy.png", "Off-policy evaluation"),
}
# Figures that the report draws itself.
_OWN_FIGURES = ("curves.png", "shift.png", "off_policy.png")
_MAX_IMAGE_BYTES = 5_000_000
_MAX_IMAGES = 40


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    title: str,
    metric: str | None = None,
    x: str | None = None,
    threshold: float | None = None,
) -> list[str]:
    """Writes one HTML page about the results in some folders.

    Args:
        paths: Folders of experiments, trials or comparisons; output folders of
            ``rllib evaluate --shift`` and ``--dataset``. The page shows their images.
        out: The ``.html`` file to write.
        title: Title of the page.
        metric: Result key of the curves and the table; None: the greedy return, or an
            offline metric for runs without an environment.
        x: Result key of the horizontal axis; None: env steps, or updates for runs
            without an environment.
        threshold: Value of the metric; the table counts the runs that reach it.

    Returns:
        Remarks on images that were left out.

    Raises:
        ResultsError: If a path does not exist, or there is nothing to show.
    """
    for path in paths:
        if not path.is_dir():
            raise ResultsError(f"{path}: this folder does not exist. Check the path.")
    trained = [path for path in paths if any(path.rglob("result.json"))]
    parts: list[str] = []
    if trained:
        parts += training_sections(trained, metric, x, threshold)
    parts += _evaluations(paths)
    remarks: list[str] = []
    parts += _images(paths, remarks)
    if not parts:
        raise ResultsError(
            "There is nothing to report at or below "
            f"{', '.join(map(str, paths))}: no result.json, no shift.md, no"
            " off_policy.md and no image. Give the folder that a command named at its"
            " end."
        )
    places = ", ".join(str(path) for path in paths)
    intro = page.paragraph(
        f"Written by rllib report (rllib_risk {rllib_risk.__version__}) from {places}."
    )
    text = page.page(title, [intro, *parts])
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, out)
    return remarks


def _evaluations(paths: Sequence[Path]) -> Iterator[str]:
    """Yields tables and figures that ``rllib evaluate`` wrote."""
    from markdown_it import MarkdownIt

    # This preset escapes HTML and supports tables.
    markdown = MarkdownIt("js-default")
    for name, (figure, title) in _EVALUATIONS.items():
        for file in sorted(file for path in paths for file in path.rglob(name)):
            yield page.heading(title)
            if (file.parent / figure).is_file():
                yield page.image(file.parent / figure, str(file.parent))
            body = markdown.render(file.read_text("utf-8", errors="replace"))
            # Lower its headings by two levels, because it is part of this section.
            for level in (3, 2, 1):
                body = body.replace(f"h{level}>", f"h{level + 2}>")
            body = body.replace("<table>", '<div class="scroll"><table>')
            yield body.replace("</table>", "</table></div>")


def _images(paths: Sequence[Path], remarks: list[str]) -> Iterator[str]:
    """Yields the images in the folders, such as rendered episodes."""
    files = sorted(
        file
        for path in paths
        for file in path.rglob("*")
        if file.suffix.lower() in page.IMAGE_SUFFIXES and file.name not in _OWN_FIGURES
    )
    small = [file for file in files if file.stat().st_size <= _MAX_IMAGE_BYTES]
    for file in sorted(set(files) - set(small)):
        remarks.append(f"{file} is larger than 5 MB and is left out.")
    if len(small) > _MAX_IMAGES:
        remarks.append(
            f"Only the first {_MAX_IMAGES} of {len(small)} images are shown."
        )
    if small:
        yield page.heading("Episodes and figures")
    for file in small[:_MAX_IMAGES]:
        yield page.image(file, str(file))

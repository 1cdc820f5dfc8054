"""Tables as texts of files: Markdown, and LaTeX for papers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MINUS = re.compile(r"(?<![\w.])-(?=[\d.])")


def markdown_table(
    header: Sequence[str], lines: Sequence[Sequence[str]], texts: Collection[int] = (0,)
) -> str:
    """Returns a table in Markdown.

    Args:
        header: Names of the columns.
        lines: Cells of each line.
        texts: Indices of the columns with texts. They are aligned to the left; the
            others hold numbers and are aligned to the right.
    """
    rule = ["---" if index in texts else "---:" for index in range(len(header))]
    # A bar inside a cell would start a new one.
    rows = [[cell.replace("|", "\\|") for cell in line] for line in [header, *lines]]
    rows.insert(1, rule)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex_table(
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    texts: Collection[int] = (0,),
    note: str = "",
) -> str:
    r"""Returns a table in LaTeX, to be read with ``\input`` inside a ``table``.

    Args:
        header: Names of the columns.
        lines: Cells of each line.
        texts: Indices of the columns with texts; see :func:`markdown_table`.
        note: Explanation of the table. It becomes a comment.
    """
    columns = "".join("l" if index in texts else "r" for index in range(len(header)))
    names, *rows = (
        f"{' & '.join(map(_latex, line))} \\\\\n" for line in [header, *lines]
    )
    comment = "".join(f"% {line}\n" for line in note.splitlines())
    return (
        f"% Needs \\usepackage{{booktabs}}.\n{comment}\\begin{{tabular}}{{{columns}}}\n"
        f"\\toprule\n{names}\\midrule\n{''.join(rows)}\\bottomrule\n\\end{{tabular}}\n"
    )


def _latex(text: str) -> str:
    """Escapes the characters that LaTeX would read as commands."""
    marked = _MINUS.sub("−", text)  # a minus sign, not a hyphen
    escaped = "".join(_LATEX.get(character, character) for character in marked)
    # LaTeX would read a bracket or a star after a row's end as an argument of it.
    guard = "{}" if escaped[:1] in ("[", "*") else ""
    return guard + escaped.replace("−", "$-$")

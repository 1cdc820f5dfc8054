"""Tables on the terminal: no word and no number is broken or cut."""

import io
import itertools

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rllib_risk.evaluation.fitted_table import print_fitted_table

WORDS = st.lists(st.text("abc_.-", min_size=1, max_size=16), max_size=3).map(" ".join)
NUMBERS = st.floats(-1e9, 1e9).map("{:.4g}".format)


@given(st.data(), st.integers(20, 120), st.integers(1, 8), st.integers(0, 4))
def test_no_word_and_no_number_is_cut(data, width, columns, lines):
    header = data.draw(st.lists(WORDS, min_size=columns, max_size=columns))
    kinds = [WORDS, *[NUMBERS] * (columns - 1)]
    cells = [[data.draw(kind) for kind in kinds] for _ in range(lines)]
    stream = io.StringIO()
    print_fitted_table(Console(file=stream, width=width), header, cells)
    printed = stream.getvalue().split()
    for text in itertools.chain(header, *cells):
        assert set(text.split()) <= set(printed)


def test_a_table_that_fits_is_as_wide_as_the_console_at_most():
    header = ["city", "random (reference)", "p_control (reference)"]
    cells = [["port_angeles", "-3.618", "0.8036"], ["tucson", "-2.272", "0.8599"]]
    for width, gap in ((38, 2), (36, 1)):
        stream = io.StringIO()
        print_fitted_table(Console(file=stream, width=width), header, cells)
        *_, last = stream.getvalue().rstrip("\n").split("\n")
        assert last == f"tucson      {' ' * gap}     -2.272{' ' * gap}     0.8599"

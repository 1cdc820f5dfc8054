"""Replaces the module of pysc2 4.0 that chooses the colours of units."""

import random


def shuffled_hue(scale):
    palette = list(range(scale))
    # BUG: Python 3.11 dropped the second argument.
    random.shuffle(palette, lambda: 0.5)
    return palette

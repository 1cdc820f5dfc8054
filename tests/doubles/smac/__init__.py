"""A double of SMAC: the behaviour of its environment without the game."""

"""A double of SMAC: what its environment says and does, without the game."""

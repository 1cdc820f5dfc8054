"""Episodes, the replay, datasets and their importers."""

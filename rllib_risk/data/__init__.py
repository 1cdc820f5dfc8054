"""Episodes, replays, datasets and importers of datasets."""

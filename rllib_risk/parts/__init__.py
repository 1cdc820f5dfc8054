"""The parts of a composition: one kind a folder, each chosen by a key."""

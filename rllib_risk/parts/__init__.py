"""The parts of a composition. A configuration key chooses each part."""

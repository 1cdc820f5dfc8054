"""Conservative penalties: of actions that a dataset does not have."""

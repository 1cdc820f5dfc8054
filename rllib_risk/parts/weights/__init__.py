"""TD weightings: which errors count less."""

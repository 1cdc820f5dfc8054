"""TD weightings, which reduce the weight of some TD errors."""

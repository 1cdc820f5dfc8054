"""Pure torch functions: risk measures, quantile losses, Bellman targets. No Ray."""

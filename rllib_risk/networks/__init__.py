"""Neural networks of agents and critics."""

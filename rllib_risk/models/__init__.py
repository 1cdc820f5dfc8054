"""Networks: agents, risk measures, mixers, critics, dual variables, reward models."""

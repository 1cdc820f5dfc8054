"""Agent networks, the risk level predictor and mixers."""

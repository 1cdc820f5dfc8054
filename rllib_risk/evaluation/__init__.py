"""Results of runs: statistics of returns, learning curves, frames of episodes."""

"""What a set of runs shows: statistics of returns, learning curves, frames of episodes."""

"""What runs show: statistics of returns, learning curves, frames of episodes."""

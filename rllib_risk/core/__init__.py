"""The RLlib side: configurations, policies, sampling, replay, losses, loops."""

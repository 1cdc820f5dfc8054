"""The RLlib side that all algorithms share: config, policy, sampling, replay, loop."""

"""check-env: plays an environment through the adapter and says what is wrong."""

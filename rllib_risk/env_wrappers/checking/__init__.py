"""The check of an environment: plays it through the adapter and reports problems."""

"""A double of MPE2: the sizes of its `simple_spread`, without its physics."""

"""Networks that an agent or a critic is made of."""

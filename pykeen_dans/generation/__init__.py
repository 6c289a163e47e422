"""Networks and numerics of generation, with no sampler among them."""

"""The benchmark suite: PyKEEN experiments, made of shipped recipes and overrides, and the rows they leave."""

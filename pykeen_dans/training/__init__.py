"""Training: the curriculum callback, loops, and losses."""

"""A look at negatives: statistics, pictures, and the command line."""

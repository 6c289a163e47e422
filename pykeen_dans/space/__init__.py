"""The spaces in which negatives are generated."""

"""Generators of vectors near which negatives are found."""

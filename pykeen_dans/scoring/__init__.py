"""Scoring: the candidates of a batch by one product, proposals to draw them from, and losses that are corrected."""

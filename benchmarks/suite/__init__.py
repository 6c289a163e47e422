"""The benchmark suite: what generated negatives gain, what they cost, and how both grow.

Results are JSON lines, one row a measurement (:mod:`suite.rows`); tables and figures are made of them alone
(:mod:`suite.tables`, :mod:`suite.figures`). What is compared is declared in two places: the samplers, controls and
ablations in :mod:`suite.variants`, and what each tier runs in :mod:`suite.tiers`.
"""

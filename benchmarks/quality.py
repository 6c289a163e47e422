"""Train recipes with several kinds of negatives; the same as ``python benchmarks/run.py quality``.

python benchmarks/quality.py --only codexsmall-complex --seeds 5
"""

from suite.cli import quality

if __name__ == "__main__":
    quality()

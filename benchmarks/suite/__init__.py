"""The benchmark suite: PyKEEN experiments, made of shipped recipes and overrides, and the rows they leave.

- :mod:`suite.recipes` and :mod:`suite.variants`: what is trained, as JSON that ``pykeen experiments run`` accepts
- :mod:`suite.training`, :mod:`suite.turns`: how it is trained and timed, alone or in turns with others
- :mod:`suite.quality`, :mod:`suite.tuning`, :mod:`suite.cost`, :mod:`suite.scale`: what is measured
- :mod:`suite.rows`, :mod:`suite.pages`, :mod:`suite.regression`: what becomes of it
"""

"""What ``dhns`` is worth with several modalities: quality, what its generator has learned, and what an epoch costs.

Texts are those of entities' names and short descriptions, encoded by TF-IDF; the image and text features of the paper's
authors are not public in reachable form.
"""

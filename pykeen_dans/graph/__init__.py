"""What depends on the training triples alone: reference embedding, types, difficulty, structural features."""

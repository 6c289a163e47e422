"""The work between epochs: what is generated, how hard it is, and how much of it is used."""

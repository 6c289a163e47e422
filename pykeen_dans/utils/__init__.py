"""What all rooms use: checks of arguments, storage, randomness, and what is read off PyKEEN."""

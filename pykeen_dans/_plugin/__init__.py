"""Registration with PyKEEN, in every order in which both may be imported."""

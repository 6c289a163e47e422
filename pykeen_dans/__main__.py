"""The command line by ``python -m pykeen_dans``."""

from .commands import main

if __name__ == "__main__":
    main(prog_name="python -m pykeen_dans")

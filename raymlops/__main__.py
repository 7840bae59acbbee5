"""`python -m raymlops` and the command `raymlops`."""

from raymlops.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

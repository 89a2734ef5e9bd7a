"""`python -m llmos`: the command."""

from llmos.cli import main

if __name__ == "__main__":
    main()

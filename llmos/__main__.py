"""`python -m llmos`: the command."""

from llmos.commands.app import main

if __name__ == "__main__":
    main()

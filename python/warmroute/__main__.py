"""`python -m warmroute`."""

from warmroute.cli import main

if __name__ == "__main__":
    main()

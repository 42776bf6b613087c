"""`python -m charpy`."""

from charpy.cli import main

if __name__ == "__main__":
    main()

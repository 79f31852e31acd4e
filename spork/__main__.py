"""`python -m spork` is the same program as `spork`."""

from spork.cli.main import main

if __name__ == "__main__":
    main()

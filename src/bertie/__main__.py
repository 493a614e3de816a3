"""`python -m bertie`."""

from bertie.cli.main import run

if __name__ == "__main__":
    run()

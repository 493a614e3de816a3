"""`python -m tests.environments [NAME ...]`."""

from __future__ import annotations

import sys

from tests.environments import NAMES, make


def main() -> None:
    wanted = sys.argv[1:] or NAMES
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no environment is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in wanted:
        make(name)


if __name__ == "__main__":
    main()

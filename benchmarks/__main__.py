"""Runs `python -m benchmarks`."""

from benchmarks.cli import main

if __name__ == "__main__":  # spawned processes import this module too
    main()

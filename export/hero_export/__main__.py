"""Runs the hero-export command without its installation: python -m hero_export."""

from hero_export.cli import main

if __name__ == "__main__":
    main()

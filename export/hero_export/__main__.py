"""python -m hero_export: the hero-export command, where it is not installed."""

from hero_export.cli import main

if __name__ == "__main__":
    main()

"""``python -m tanuki_cli`` is the same as ``tanuki``."""

from tanuki_cli.cli import main

if __name__ == "__main__":
    main()

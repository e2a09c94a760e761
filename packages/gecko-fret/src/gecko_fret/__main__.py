"""`python -m gecko_fret` is `gecko-fret`. Ctrl-C while the command is imported ends it without a traceback."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from gecko_fret.cli import main as command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()

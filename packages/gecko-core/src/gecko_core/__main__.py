"""`python -m gecko_core` is `gecko-embed`. Ctrl-C while the command is imported ends it without a traceback."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from gecko_core.cli import main as command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    sys.exit(command())


if __name__ == "__main__":
    main()

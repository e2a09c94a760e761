"""`python -m gecko_train` is `gecko-train`, also for torchrun. Ctrl-C during its imports ends it without a trace."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from gecko_train.cli import main as command
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()

"""``python -m gecko_train``, for torchrun."""

from gecko_train.cli import main

if __name__ == "__main__":
    main()

"""``python -m gecko_fret``."""

from gecko_fret.cli import main

main()

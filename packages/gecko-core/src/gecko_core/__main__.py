"""`python -m gecko_core` is `gecko-embed`."""

import sys

from gecko_core.cli import main

sys.exit(main())

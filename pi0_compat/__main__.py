"""``python -m pi0_compat``: the command ``pi0-compat``."""

import sys

from pi0_compat.cli.main import main

sys.exit(main())

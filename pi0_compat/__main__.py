"""``python -m pi0_compat`` and the script ``pi0-compat``: the command."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # While the rest is imported, and when the interpreter ends, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pi0_compat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

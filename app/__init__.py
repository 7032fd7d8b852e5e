"""HTTP in, JSON out: the service. Imports ``model``, never ``training``."""

import signal
import sys

# Importing torch for a command takes seconds, in which Ctrl-C would leave a traceback: until
# ``take_ctrl_c`` it just ends the process.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def take_ctrl_c() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)

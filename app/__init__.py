"""HTTP in, JSON out: the service. Imports ``model``, never ``training``."""

import signal
import sys

# Open files that a process may have where the system lets it: each connection is one, an idle one
# too, and the usual 1,024 are soon taken.
_OPEN_FILES = 65_536

# Importing torch for a command takes seconds, in which Ctrl-C would leave a traceback: until
# ``take_ctrl_c`` it just ends the process.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def take_ctrl_c() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_file_limit() -> int:
    """Lets the process have more open files, where it may; returns how many it has at most."""
    import resource  # not on every system is there one

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most if soft == resource.RLIM_INFINITY else max(soft, most)

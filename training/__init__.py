"""Offline: corpus to checkpoint folder. Imports ``model``, never ``app``.

Every command of it begins here, and ends here where the packages of its extra are not installed.
"""

import signal
import sys
from importlib.util import find_spec

_IS_COMMAND = sys.argv[:1] == ["-m"]  # so long as a command's packages are imported

if missing := [
    name for name in ("jinja2", "matplotlib", "pydantic", "sklearn", "tqdm") if not find_spec(name)
]:
    problem = f"{', '.join(missing)} not found: install the extra `train` with scripts/setup train."
    if not _IS_COMMAND:
        raise ModuleNotFoundError(f"training: {problem}")
    print(f"training: {problem}", file=sys.stderr)
    sys.exit(2)

# Importing torch and scikit-learn for a command takes seconds, in which Ctrl-C would leave a
# traceback: until ``command.exit_code`` it just ends the process.
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Offline: corpus to checkpoint folder. Imports ``model``, never ``app``.

Every command of it begins here, and ends here where the packages of its extra are not installed.
"""

import sys
from importlib.util import find_spec

if missing := [
    name for name in ("jinja2", "matplotlib", "pydantic", "sklearn", "tqdm") if not find_spec(name)
]:
    print(
        f"training: {', '.join(missing)} not found: install the extra `train` with "
        "scripts/setup train.",
        file=sys.stderr,
    )
    sys.exit(2)

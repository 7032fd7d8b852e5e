"""python -m app: settings from flags and the environment; one process, or several workers.

Exit codes: 0 after a signal, 2 where it cannot start, 3 where the model thread, or the workers,
cannot be kept alive, or the model fails on everything, 130 after Ctrl-C before it serves.
"""

import logging
import os
import signal
import sys

from app import raise_file_limit, take_ctrl_c
from app.access import AccessKeys, KeysError
from app.logs import configure_logs, print_reason
from app.settings import SettingsError, read_settings, unread_variables
from app.workers import METRICS_FOLDER, STARTUP_FAILED, Workers, inherited_socket, listen


def main() -> int:
    """Serves until a signal; returns the exit code."""
    take_ctrl_c()
    # What asks for a reload must not end what has yet to load.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = read_settings(sys.argv[1:])
        configure_logs(settings.log_level)
        raise_file_limit()
        listener = inherited_socket()
        if listener is None and (unread := unread_variables()):
            logging.getLogger("spamgate").warning(
                "no setting reads these variables", extra={"variables": unread}
            )
        if listener is None and METRICS_FOLDER in os.environ:
            raise SettingsError(
                f"{METRICS_FOLDER} is set by spamgate for its own workers: unset it."
            )
        if settings.workers > 1 and listener is None:
            AccessKeys(settings.api_keys_file)  # else each worker would say what is wrong with them
            return Workers(settings, sys.argv[1:]).run()
        # Not before: torch is large, and whoever only starts others does without.
        from app.server import Server

        server = Server(settings)
        listener = listener or listen(settings)
    except (SettingsError, KeysError) as error:
        print_reason(str(error))
        return STARTUP_FAILED
    except KeyboardInterrupt:  # loading takes seconds
        return 130
    return server.serve_until_signal(listener)


if __name__ == "__main__":
    sys.exit(main())

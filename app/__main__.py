"""python -m app: settings from flags and the environment, one process, exit code 2 where it cannot
start."""

import sys

import uvicorn

from app.main import create_app
from app.settings import SettingsError, read_settings

# rspamd keeps a connection only where the reply says so; idle ones live longer than its own 60 s.
_HEADERS = [("Connection", "keep-alive")]
_KEEP_ALIVE_SECONDS = 75


def main() -> int:
    """Serves until a signal; returns the exit code."""
    try:
        settings = read_settings(sys.argv[1:])
    except SettingsError as error:
        print(f"spamgate: {error}", file=sys.stderr)  # noqa: T201
        return 2
    exit_code = 0

    def exit_process(code: int) -> None:
        nonlocal exit_code
        exit_code = code
        server.should_exit = True

    app = create_app(settings, exit_process)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http="httptools",
            ws="none",
            headers=_HEADERS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=20,
            server_header=False,
        )
    )
    server.run()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())

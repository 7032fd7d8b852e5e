"""Hands SMS on from Kannel to their receiver unless spamgate takes them for spam."""

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen


def is_spam(url: str, text: str, threshold: float) -> bool:
    """The verdict on a text; False where there is none in time."""
    body = json.dumps({"texts": [text]}).encode()
    try:
        with urlopen(Request(f"{url}/classify", body), timeout=2) as reply:
            result = json.load(reply)["results"][0]
        return bool(result["probabilities"]["spam"] >= threshold)
    except (OSError, ValueError, KeyError) as error:
        print(f"no verdict: {type(error).__name__}", file=sys.stderr)
        return False


def make_handler(arguments: argparse.Namespace) -> type[BaseHTTPRequestHandler]:
    """The handler of Kannel's requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not is_spam(
                arguments.spamgate, body.decode("utf-8", "replace"), arguments.threshold
            ):
                query = self.path.partition("?")[2]
                urlopen(Request(f"{arguments.target}?{query}", body), timeout=10).close()
            # An empty reply, so that Kannel sends no SMS back.
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: messages are private."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spamgate", default="http://127.0.0.1:8000")
    parser.add_argument("--target", required=True, help="receives what is not spam, by POST")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--threshold", type=float, default=0.9)
    arguments = parser.parse_args()
    ThreadingHTTPServer(("127.0.0.1", arguments.port), make_handler(arguments)).serve_forever()


if __name__ == "__main__":
    main()

"""Hands SMS on from Kannel to their receiver unless spamgate takes them for spam."""

import argparse
import json
import os
import sys
from email.message import Message
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener


class NoRedirects(HTTPRedirectHandler):
    """An error: followed, the message would be left out and the key go along."""

    def redirect_request(self, *_: object) -> None:
        return None


OPEN = build_opener(ProxyHandler({}), NoRedirects).open  # no proxy is told what SMS say
KEY = os.fsencode(os.environ.get("SPAMGATE_KEY", "").strip())
ACCESS_KEY = {"X-API-Key": KEY} if KEY else {}


def is_spam(url: str, message: bytes, charset: str, threshold: float) -> bool:
    """The verdict on a message; False where there is none in time."""
    try:
        body = json.dumps({"texts": [message.decode(charset, "replace")]}).encode()
        address = f"{url.rstrip('/')}/classify"
        with OPEN(Request(address, body, ACCESS_KEY), timeout=2) as reply:
            result = json.load(reply)["results"][0]
        return bool(result["probabilities"]["spam"] >= threshold)
    except Exception as error:  # whatever goes wrong here, no message may be lost by it
        status = getattr(error, "code", "")  # 401: SPAMGATE_KEY is missing
        print(f"no verdict: {type(error).__name__} {status}".rstrip(), file=sys.stderr)
        return False


def hand_on(url: str, message: bytes, headers: Message) -> int:
    """The status for Kannel: 200, or 502 where the target did not take the message."""
    kept = {
        name: value
        for name, value in headers.items()
        if name.lower().startswith(("content-type", "x-kannel-"))
    }
    try:
        OPEN(Request(url, message, kept), timeout=10).close()
    except HTTPError as error:
        if error.code == 303:  # it was taken, and more is said elsewhere
            return 200
        print(f"not handed on: HTTP {error.code}", file=sys.stderr)
        return 502
    except (OSError, HTTPException, ValueError) as error:
        print(f"not handed on: {type(error).__name__}", file=sys.stderr)
        return 502
    return 200


def make_handler(arguments: argparse.Namespace) -> type[BaseHTTPRequestHandler]:
    """The handler of Kannel's requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():  # sent in pieces, say, which is not read here
                self.send_error(411)
                return
            body = self.rfile.read(int(length))
            # Texts beyond GSM's alphabet come as UTF-16BE.
            charset = self.headers.get_content_charset("utf-8")
            status = 200
            if not is_spam(arguments.spamgate, body, charset, arguments.threshold):
                query = self.path.partition("?")[2]
                mark = "&" if "?" in arguments.target else "?"
                status = hand_on(f"{arguments.target}{mark}{query}", body, self.headers)
            # An empty reply, so that Kannel sends no SMS back.
            self.send_response(status)
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
    ThreadingHTTPServer.request_queue_size = 512  # else of a burst some are not heard
    ThreadingHTTPServer(("127.0.0.1", arguments.port), make_handler(arguments)).serve_forever()


if __name__ == "__main__":
    main()

"""A milter for Postfix (protocol version 6): marks mail, or refuses spam, by spamgate's verdict."""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import struct
import sys
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
KEY = os.fsencode(os.environ.get("SPAMGATE_KEY", "").strip())
ACCESS_KEY = {"X-API-Key": KEY} if KEY else {}
MOST_BYTES = 8 << 20  # of the fields, and of the body: the service reads no more
MOST_MARKS = 50  # forged ones; Postfix reads a mail's fields once more to take each out
# Not wanted: connect, HELO, MAIL, RCPT, unknown, DATA. Not answered: fields, their end, body.
PROTOCOL = 0x01 | 0x02 | 0x04 | 0x08 | 0x100 | 0x200 | 0x80 | 0x40000 | 0x80000


class NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None  # an error: followed, the message would be left out and the key go along


OPEN = build_opener(ProxyHandler({}), NoRedirects).open  # no proxy is told what mail says


def ask(url: str, message: bytes) -> tuple[str, float]:
    """Decision and probability of spam."""
    headers = {"Content-Type": "message/rfc822", "X-Timeout-Ms": "4000"} | ACCESS_KEY
    address = f"{url.rstrip('/')}/classify/message"
    with OPEN(Request(address, message, headers), timeout=4) as reply:
        result = json.load(reply)["results"][0]
    return str(result["decision"]), float(result["probabilities"]["spam"])


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


async def judge(url: str, message: bytes, marks: int, reject: bool) -> bytes:
    """The packets that answer a whole message; its own marks go, the last first."""
    if marks > MOST_MARKS:
        return packet(b"y", b"550 5.7.1 Too many fields X-Spamgate.\0")
    verdict = None
    try:  # in a thread, of which there are few: the wait for one counts, too
        asked = asyncio.to_thread(ask, url, message)
        verdict = await asyncio.wait_for(asked, 4)
    except Exception as error:  # whatever goes wrong here, no mail may be held up by it
        status = getattr(error, "code", "")  # 401: SPAMGATE_KEY is missing
        print(f"no verdict: {type(error).__name__} {status}".rstrip(), file=sys.stderr, flush=True)
    if reject and verdict and verdict[0] == "spam":
        return packet(b"y", b"550 5.7.1 This message was classified as spam.\0")
    forged = range(marks, 0, -1)
    answer = b"".join(packet(b"m", struct.pack("!I", n) + b"X-Spamgate\0\0") for n in forged)
    if verdict:
        answer += packet(b"h", f"X-Spamgate\0{verdict[0]} {verdict[1]:.4f}\0".encode())
    return answer + packet(b"a")


async def serve(url: str, reject: bool, reader: Reader, writer: Writer) -> None:
    fields, body, marks, command = bytearray(), bytearray(), 0, b""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
        while command != b"Q":
            content = await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0])
            command, data = content[:1], content[1:]
            if command == b"O":
                writer.write(packet(b"O", struct.pack("!III", 6, 0x11, PROTOCOL)))  # adds, changes
            elif command == b"L":
                name, value = data.split(b"\0")[:2]
                field = name + b": " + value.replace(b"\n", b"\r\n") + b"\r\n"
                fields += field[: MOST_BYTES - len(fields)]
                marks += name.strip().lower() == b"x-spamgate"
            elif command in (b"B", b"E"):
                body += data[: MOST_BYTES - len(body)]
            if command == b"E":
                writer.write(await judge(url, b"%b\r\n%b" % (fields, body), marks, reject))
            if command in (b"E", b"A", b"K"):
                fields, body, marks = bytearray(), bytearray(), 0
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="Marks mail by the verdict of spamgate.")
    parser.add_argument("--spamgate", default="http://127.0.0.1:8000")
    parser.add_argument("--port", type=int, default=8898)
    parser.add_argument("--reject", action="store_true", help="refuse spam")
    arguments = parser.parse_args()
    handler = functools.partial(serve, arguments.spamgate, arguments.reject)
    await (await asyncio.start_server(handler, "127.0.0.1", arguments.port)).serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

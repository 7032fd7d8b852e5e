"""Downloads: from the first place that has them whole, checked by their hash."""

import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from training import download
from training.config import CorpusError
from training.corpora import sha256_of
from training.download import find_sms_file


def test_missing_and_altered_files_are_clear_errors(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(CorpusError, match="cannot read the corpus"):
        find_sms_file(tmp_path / "none", (), "")
    with pytest.raises(CorpusError, match=f"its SHA-256 is {sha256_of(corpus)}, expected 00"):
        find_sms_file(corpus, (), "00")
    assert find_sms_file(corpus.parent, (), sha256_of(corpus)) == corpus


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, *_: object) -> None:
        pass


def test_download_tries_each_url_and_checks_the_inner_file(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(download, "_CACHE", cache)
    with zipfile.ZipFile(tmp_path / "sms.zip", "w") as archive:
        archive.write(corpus, "SMSSpamCollection")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        site = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{site}/absent.zip", f"{site}/sms.zip"]
        with pytest.raises(CorpusError, match="expected 00"):
            find_sms_file(None, urls, "00")
        assert not cache.exists()
        found = find_sms_file(None, urls, sha256_of(corpus))
        server.shutdown()
        thread.join()
    assert found.read_bytes() == corpus.read_bytes()
    assert find_sms_file(None, (), sha256_of(corpus)) == found  # from the cache, no URL asked
    found.unlink()
    with pytest.raises(CorpusError, match="could not be downloaded.*--data"):
        find_sms_file(None, urls, "")


@pytest.mark.parametrize("answer", ["cut", "no HTTP", "damaged"])
def test_a_download_that_breaks_off_goes_on_with_the_next_url(
    answer: str, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_CACHE", tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "sms.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(corpus, "SMSSpamCollection")
    damaged = bytearray((tmp_path / "sms.zip").read_bytes())
    damaged[60:200] = bytes(140)

    class Breaking(QuietHandler):
        def do_GET(self) -> None:
            if self.path != "/broken":
                super().do_GET()
            elif answer == "no HTTP":
                self.wfile.write(b"nothing\r\n\r\n")
            else:
                self.send_response(200)
                if answer == "cut":
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"ffff\r\nPK" if answer == "cut" else damaged)

    Breaking.protocol_version = "HTTP/1.1" if answer == "cut" else "HTTP/1.0"
    handler = partial(Breaking, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        site = f"http://127.0.0.1:{server.server_port}"
        try:
            found = find_sms_file(None, [f"{site}/broken", f"{site}/sms.zip"], "")
        finally:
            server.shutdown()
            thread.join()
    assert found.read_bytes() == corpus.read_bytes()

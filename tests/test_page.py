"""The page at / asks for the key; without one it shows nothing. What it does: test_browser."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.mail_programs import SPAM_MAIL
from tests.serving import serving


def test_page_is_open_and_its_requests_ask_for_the_key(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("admin long-key\n")

    async def scenario() -> list[int]:
        async with serving(save_tiny(), api_keys_file=keys) as client:
            replies = [await client.get(path) for path in ("/", "/page.css", "/page.js")]
            explain = "/classify/message?explain=true"
            replies.append(await client.post(explain, content=SPAM_MAIL))
            key = {"x-api-key": "long-key"}
            replies.append(await client.post(explain, content=SPAM_MAIL, headers=key))
            assert replies[-1].json()["results"][0]["explanation"]["spans"]
            return [reply.status_code for reply in replies]

    assert asyncio.run(scenario()) == [200, 200, 200, 401, 200]

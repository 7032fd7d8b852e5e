"""The SpamAssassin corpus: all of it is read, and 50 drawn messages as a person reads them."""

import email
import os
import subprocess
import time
from pathlib import Path

import pytest

from model.mail import MailText, message_to_text
from tests.conftest import SHARED_DATA

pytestmark = pytest.mark.slow

MESSAGES = 6046
MAX_P99_SECONDS = 0.020
MULTIBYTE = ("cp950", "gb18030", "cp949", "cp932", "iso2022_jp")

# Drawn by random.Random(50).sample(all paths in order, 50) and each read beside its raw form: kind
# of the displayed part, how its text begins and how it ends.
DRAWN = [
    (
        "hard-ham-1/00176",
        "html",
        "New Message on One Income Living",
        "il address from One Income Living.",
    ),
    (
        "easy-ham-1/02181",
        "plain",
        "URL: http://www.newsisfree.com/cli",
        "s writing and hacking, say experts",
    ),
    (
        "easy-ham-2/00483",
        "plain",
        "Spray a bit of wd40 around",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "spam-2/00575",
        "plain",
        "You are receiving this email becau",
        "you've read it. And it's FREE!",
    ),
    (
        "easy-ham-1/01987",
        "plain",
        "URL: http://www.newsisfree.com/cli",
        "altitude record attempt - for now",
    ),
    (
        "spam-2/01028",
        "html",
        "To stop receiving Nippon Forex Inf",
        "ts/listinfo/spamassassin-sightings",
    ),
    (
        "easy-ham-2/01377",
        "plain",
        "[I'm sure somebody will tell me",
        "peratures, wearing just a T-shirt.",
    ),
    ("easy-ham-2/00204", "plain", "On Thu, 1 Aug 2002, John", "st maintainer: listmaster@linux.ie"),
    (
        "easy-ham-1/00698",
        "plain",
        "Can anyone stop talking politics l",
        "skies once more and ever onward.",
    ),
    ("spam-1/00262", "html", "It’s FAST! You’ll be up and", "ails, please see below. Click here"),
    ("easy-ham-2/00100", "plain", "On Sun, Jul 21, 2002 at", "st maintainer: listmaster@linux.ie"),
    (
        "easy-ham-1/01839",
        "plain",
        "URL: http://boingboing.net/#854813",
        "quicktopic.com/boing/H/vsVYCTZE7hs",
    ),
    (
        "spam-2/00896",
        "plain",
        "BARRISTER ADEWALE COKER CHAMBERS L",
        "ts/listinfo/spamassassin-sightings",
    ),
    (
        "spam-1/00411",
        "plain",
        "DEAR OPPORTUNITIES SEEKERS: I THOU",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "easy-ham-1/00699",
        "plain",
        'Gary Lawrence Murphy wrote: > "R"',
        "and keep a straight face. Owen",
    ),
    ("easy-ham-1/01256", "plain", "On Wed, Oct 02, 2002 at", "rpms.net/mailman/listinfo/rpm-list"),
    ("easy-ham-2/00345", "plain", "> > No, as of oh,", "st maintainer: listmaster@linux.ie"),
    (
        "easy-ham-1/00807",
        "plain",
        "http://www.post-gazette.com/column",
        ".com/columnists/20020905brian5.asp",
    ),
    (
        "easy-ham-2/00347",
        "plain",
        "Quoting Kenn Humborg (kenn@bluetre",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "easy-ham-2/00117",
        "plain",
        "Never having to support a large",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "easy-ham-1/01822",
        "plain",
        "use Perl Daily Newsletter In this",
        "hange your preferences from there.",
    ),
    (
        "easy-ham-1/01549",
        "plain",
        "Bonjour, I'm writting a Python scr",
        "rge.net/lists/listinfo/razor-users",
    ),
    (
        "easy-ham-1/00564",
        "plain",
        "Is this old bits? It should",
        "check it out. www.thethresher.com",
    ),
    (
        "easy-ham-2/00195",
        "plain",
        "Quoting jac1 (jac1@student.cs.ucc.",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "spam-2/00297",
        "html",
        "Watch full length movies in full",
        "Village, CA 91607 ph:818-908-1068",
    ),
    ("spam-2/00327", "html", "HEY, I AM FORWARDING YOU THE", "ll future Notices, then CLICK HERE"),
    (
        "easy-ham-2/01014",
        "plain",
        "-----BEGIN PGP SIGNED MESSAGE-----",
        "p://xent.com/mailman/listinfo/fork",
    ),
    (
        "spam-2/00554",
        "plain",
        "FROM: DR. BEN KOKORI Compliments o",
        "from you. Best regards, BEN KOKORI",
    ),
    (
        "easy-ham-1/00729",
        "plain",
        "----- Original Message ----- From:",
        "for thousands of years. Got bits?",
    ),
    ("easy-ham-1/00525", "plain", "> This is getting better and", "it out yourself. over and out."),
    ("spam-2/01033", "html", "100% Free Porn! What more can", "ts/listinfo/spamassassin-sightings"),
    ("spam-2/00298", "plain", "I'm making $3000 to $7000 a", "5828QHWj7-819qZvd0262KLsM5-753Ml77"),
    (
        "easy-ham-2/00239",
        "plain",
        "Hi, fergal@esatclear.ie said: > 7.",
        "st maintainer: listmaster@linux.ie",
    ),
    ("spam-2/01012", "html", "Save up to 75% on your", "ts/listinfo/spamassassin-sightings"),
    (
        "spam-2/00623",
        "plain",
        "Intelligence Bad Credit? Great! We",
        "s5P9a@agileconcepts.com/optout.htm",
    ),
    (
        "easy-ham-2/01025",
        "plain",
        "Sure, the *object* of a particular",
        "p://xent.com/mailman/listinfo/fork",
    ),
    (
        "easy-ham-1/00047",
        "plain",
        "It will function as a router",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "easy-ham-1/01862",
        "plain",
        "URL: http://scriptingnews.userland",
        "eblogs.com/0104308/2002/09/24.html",
    ),
    (
        "easy-ham-2/00265",
        "plain",
        "At 13:06 06/08/2002, John P. Loone",
        "st maintainer: listmaster@linux.ie",
    ),
    (
        "easy-ham-2/01059",
        "plain",
        "At 12:35 AM -0400 on 8/17/02,",
        "p://xent.com/mailman/listinfo/fork",
    ),
    (
        "spam-2/01089",
        "html",
        "Dear juanzec , Rape Sex! CLICK",
        "ts/listinfo/spamassassin-sightings",
    ),
    (
        "easy-ham-1/00867",
        "plain",
        '>>>>> "E" == Eirikur Hallgrimsson',
        'only give you answers." (Picasso)',
    ),
    ("easy-ham-1/01648", "plain", "Did you want this on the", "15)268-9812 Fax AOL-IM: BKClements"),
    (
        "easy-ham-2/01127",
        "plain",
        "On Mon, 2002-07-22 at 06:50, che",
        "rpms.net/mailman/listinfo/rpm-list",
    ),
    (
        "easy-ham-1/02221",
        "plain",
        "URL: http://www.newsisfree.com/cli",
        "Bush to persevere with the UN.",
    ),
    (
        "spam-2/01027",
        "html",
        "SAY GOODBYE TO Dropped calls Forev",
        "ts/listinfo/spamassassin-sightings",
    ),
    (
        "spam-2/00112",
        "plain",
        "TO BE REMOVED FROM FUTURE MAILINGS",
        ". Amendment I, The US Constitution",
    ),
    (
        "easy-ham-2/01269",
        "plain",
        "On Wed, 21 Aug 2002 10:38:04",
        "rpms.net/mailman/listinfo/rpm-list",
    ),
    (
        "easy-ham-1/01038",
        "plain",
        "Once upon a time, Ville wrote",
        "rpms.net/mailman/listinfo/rpm-list",
    ),
    (
        "easy-ham-1/02210",
        "plain",
        "URL: http://diveintomark.org/archi",
        "e.harpold.com/presents/000077.html",
    ),
]


@pytest.fixture(scope="module")
def corpus() -> Path:
    """The raw messages, fetched once into the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "spamgate" / "spamassassin"
    script = SHARED_DATA / "spamassassin" / "get.sh"
    if not script.exists():
        pytest.skip(f"the script that fetches the corpus is not at {script}")
    fetched = subprocess.run(
        ["bash", str(script), str(folder)], capture_output=True, text=True, check=False
    )
    if fetched.returncode != 0:
        pytest.skip(f"the corpus could not be fetched: {fetched.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(scope="module")
def raws(corpus: Path) -> dict[str, bytes]:
    """Each message under its group and number."""
    paths = sorted(corpus.glob("*/*.txt"))
    assert len(paths) == MESSAGES
    return {f"{path.parent.name}/{path.name.split('.')[0]}": path.read_bytes() for path in paths}


def squeeze(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum())


def test_every_message_is_read_in_time(raws: dict[str, bytes]) -> None:
    seconds = []
    for name, raw in raws.items():
        start = time.process_time()
        message = message_to_text(raw)
        seconds.append(time.process_time() - start)
        assert message.text, name
        assert not message.truncated, name
        message.text.encode("utf-8")
    assert sorted(seconds)[len(seconds) * 99 // 100] < MAX_P99_SECONDS


@pytest.mark.parametrize(("name", "kind", "start", "end"), DRAWN)
def test_drawn_message_is_read_as_a_person_reads_it(
    raws: dict[str, bytes], name: str, kind: str, start: str, end: str
) -> None:
    message = message_to_text(raws[name])
    body = " ".join(message.text.removeprefix(message.subject).split())
    assert message.parts == (f"text/{kind}",)
    assert body.startswith(start)
    assert body.endswith(end)


def test_plain_messages_agree_with_the_standard_library(raws: dict[str, bytes]) -> None:
    """Letters and digits of messages that are one plain part; thousands, so few are left out."""
    compared = 0
    for name, raw in raws.items():
        # The library takes the mbox line for a field.
        message = email.message_from_bytes(raw[raw.startswith(b"From ") and raw.index(b"\n") + 1 :])
        ours: MailText = message_to_text(raw)
        if message.get_content_type() != "text/plain" or message.is_multipart():
            continue
        if ours.charset in MULTIBYTE:
            continue
        payload = message.get_payload(decode=True)
        assert isinstance(payload, bytes)
        body = ours.text.removeprefix(ours.subject)
        assert squeeze(body) == squeeze(payload.decode("ascii", "ignore")), name
        compared += 1
    assert compared > 4_500

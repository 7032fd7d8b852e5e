"""Which of the texts in a multipart are shown, and what one of them says that others do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from model.lines import new_lines

INVITATION = {"text/calendar"}
_PLAIN = {"text/plain"}
# An HTML part with fewer words gives way to the plain part beside it, as in rspamd.
_MIN_HTML_WORDS = 10


@dataclass(frozen=True)
class ShownText:
    """A displayed part, decoded."""

    content_type: str
    charset: str
    text: str

    @cached_property
    def words(self) -> frozenset[str]:
        """What stands between blanks."""
        return frozenset(self.text.split())

    @property
    def without_blanks(self) -> str:
        """The text in one word."""
        return "".join(self.text.split())

    @cached_property
    def num_html_words(self) -> int:
        """Words in order, repeated ones too; 0 of what is no HTML."""
        return len(self.text.split()) if self.content_type == "text/html" else 0


def choose(
    shown: list[list[ShownText]], kind: str, num_roots: int, *, html_alone: bool = False
) -> list[ShownText]:
    """What a multipart shows of its children's texts.

    Args:
        shown: the texts of each child.
        kind: the type of the multipart.
        num_roots: how many of a multipart/related's children may be the one that is shown.
        html_alone: whether, of alternatives, nothing is read beside HTML, however short.
    """
    shown = [texts for texts in shown if any(text.text for text in texts)]
    if kind == "multipart/related":
        shown = shown[:num_roots]
    if kind == "multipart/alternative" and len(shown) > 1:
        rich = [texts for texts in shown if _html_words(texts) >= _MIN_HTML_WORDS]
        plain = [texts for texts in shown if _kinds(texts) == _PLAIN]
        invitations = [texts for texts in shown if _kinds(texts) == INVITATION]
        others = [texts for texts in shown if texts not in invitations]
        html = [texts for texts in others if _html_words(texts)]
        if html and html_alone:
            return html[-1]
        chosen = (rich or plain or others or shown)[-1]
        # Gmail and Outlook show HTML wherever it stands, Thunderbird rather one that is not within
        # a multipart, others the last of all, and an invitation beside that.
        known = set(_words(chosen))
        for texts in (*html[::-1], *others[-1:], *invitations[-1:]):
            if not _words(texts) <= known:
                chosen = chosen + texts
                known |= _words(texts)
        return chosen
    return [text for texts in shown for text in texts]


def said_once(texts: list[ShownText], subject: str) -> Iterator[str]:
    """The texts, of invitations what neither the others say nor the subject: most programs that
    send one repeat all of the message in it."""
    others = [text for text in texts if text.content_type not in INVITATION]
    # Of invitations there may be hundreds beside very many words: these are gathered once.
    known = {*_words(others), *subject.split()} if len(others) < len(texts) else set[str]()
    invitations: set[str] = set()
    for text in texts:
        if text.content_type not in INVITATION:
            yield text.text
        elif text.text not in invitations:
            invitations.add(text.text)
            yield new_lines(text.text, known)


def _kinds(texts: list[ShownText]) -> set[str]:
    return {text.content_type for text in texts}


def _words(texts: list[ShownText]) -> frozenset[str]:
    return frozenset[str]().union(*(text.words for text in texts))


def _html_words(texts: list[ShownText]) -> int:
    return sum(text.num_html_words for text in texts)

"""Text that HTML shows though no element holds it: strings of CSS, labels, titles on display."""

import re

from model.markup import elements

# Elements that are not shown unless a style says so.
_UNSHOWN = frozenset(("title", "script", "style", "noembed", "noframes"))
_STRING = r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'"
_GENERATING = re.compile(
    r"(?:content|list-style(?:-type)?|quotes|symbols|prefix|suffix)\s*+:"
    rf"((?:{_STRING}|[^;{{}}\"'])*+)",
    re.IGNORECASE | re.DOTALL,
)
_PIECE = re.compile(rf"({_STRING})|attr\(\s*+([\w-]++)", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9a-f]{1,6})\s?|(.))", re.IGNORECASE | re.DOTALL)
_DISPLAYED = re.compile(r"display\s*+:(?!\s*+none)", re.IGNORECASE)
_WORD = re.compile(r"[\w-]++|\*")


def generated_text(html: str) -> str:
    r"""What is shown beside the elements' own text, each piece in a line of its own.

    >>> generated_text("<style>p:before{content:'\\42uy' attr(id)}</style><p id=now>")
    'Buy\nnow'
    """
    sheets: list[str] = []
    unshown: list[tuple[set[str], str, str]] = []  # names in selectors, own style, content
    attributes: dict[str, list[str]] = {}
    found: list[str] = []
    for tag, own, content in elements(html):
        style = own.get("style", "")
        sheets += [style, content if tag == "style" else ""]
        if tag in _UNSHOWN and content.strip():
            names = {tag, "*", *own.get("class", "").split(), own.get("id", "")}
            unshown.append((names, style, content))
        elif tag in ("option", "optgroup"):
            found.append(own.get("label", ""))
        for name, value in own.items():
            attributes.setdefault(name, []).append(value)
    css = _COMMENT.sub(" ", "\n".join(filter(None, sheets)))
    displayed: set[str] = set()
    for rule in css.split("}"):
        *_, selectors, declarations = ("", *rule.split("{"))
        if _DISPLAYED.search(declarations):
            displayed.update(_WORD.findall(selectors))
    found += [
        content
        for names, style, content in unshown
        if _DISPLAYED.search(style) or not displayed.isdisjoint(names)
    ]
    named: dict[str, None] = {}
    for declaration in _GENERATING.finditer(css):
        pieces = _PIECE.findall(declaration[1])
        found.append("".join(_ESCAPE.sub(_unescape, string[1:-1]) for string, _ in pieces))
        named.update((name.lower(), None) for _, name in pieces)
    # Each attribute's values once: all of them for all declarations would have no bound.
    found += [value for name in named for value in attributes.get(name, ())]
    return "\n".join(text for text in found if any(map(str.isalnum, text)))


def _unescape(escape: re.Match[str]) -> str:
    number = int(escape[1], 16) if escape[1] else 0
    is_character = 0 < number < 0x110000 and not 0xD800 <= number < 0xE000
    return chr(number) if is_character else escape[2] or ""

"""Which values of CSS's properties browsers know, of those that hide text."""

import re

# What browsers and mail programs know. With a hyphen in front, or a bracket, it is theirs to say.
_WORD = re.compile(r"[a-z][\w-]*")
_WORD_OR_NUMBER = re.compile(r"\w[\w-]*")
_EVERYWHERE = ("inherit", "initial", "unset", "revert", "revert-layer")
_DISPLAYS = frozenset(
    ("none", "contents", "block", "inline", "flow-root", "flex", "grid", "list-item", "run-in")
    + ("inline-block", "inline-flex", "inline-grid", "inline-table", "table", "table-cell")
    + ("table-row", "table-row-group", "table-header-group", "table-footer-group", "math", "flow")
    + ("table-column", "table-column-group", "table-caption", "ruby", "ruby-base", "ruby-text")
    + ("compact", "marker", *_EVERYWHERE)
)
_WORDS_OF_SIZE = frozenset(
    ("xx-small", "x-small", "small", "medium", "large", "x-large", "xx-large", "xxx-large")
    + ("smaller", "larger", "math", *_EVERYWHERE)
)


def is_invalid(name: str, value: str) -> bool:
    """Whether browsers drop a declaration, so that what stood before it holds: "display:0".

    A value that some program may know is not.
    """
    if name == "display":
        return value not in _DISPLAYS and _WORD_OR_NUMBER.fullmatch(value) is not None
    is_number = name in ("opacity", "font-size")
    return is_number and value not in _WORDS_OF_SIZE and _WORD.fullmatch(value) is not None

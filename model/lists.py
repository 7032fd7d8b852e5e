"""Lists of HTML that lie in lists: how deep, and how to read those that lie too deep."""

from resiliparse.parse.html import DocumentNode, ElementNode

from model.background import select

# Elements times those whose content moves, which is walked over each time.
MAX_MOVED = 10_000_000
_MAX_FLATTENED = 5_000
# A text in a list is set in by two blanks for each list around it.
_MAX_LISTS = 12


def flatten_lists(document: DocumentNode) -> bool:
    """Takes lists that lie so deep in others that their text would be mostly blanks for none.

    Returns whether there are none left: False where that would be too much work.
    """
    lists = select(document, "ul,ol")
    if not _MAX_LISTS < len(lists) <= _MAX_FLATTENED:
        return len(lists) <= _MAX_LISTS
    deep = [element for element, depth in _depths(lists).items() if depth > _MAX_LISTS]
    if deep and len(deep) * len(select(document, "*")) > MAX_MOVED:
        return False
    for element in deep:  # the outermost first: no text is moved twice
        if (parent := element.parent) is not None:
            for child in element.child_nodes.values():
                if child:
                    parent.insert_before(child, element)
            parent.remove_child(element)
    return True


def _depths(lists: list[ElementNode]) -> dict[ElementNode, int]:
    """In how many lists each of a document's lists lies, with itself, in the same order."""
    depths: dict[ElementNode, int] = {}
    for element in lists:
        path: list[ElementNode] = []
        ancestor: ElementNode | None = element
        while ancestor is not None and ancestor not in depths:
            path.append(ancestor)
            ancestor = ancestor.parent_element
        depth = depths[ancestor] if ancestor is not None else 0
        for descendant in reversed(path):
            depth += descendant.tag in ("ul", "ol")
            depths[descendant] = depth
    return {element: depths[element] for element in lists}

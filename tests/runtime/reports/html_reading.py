"""Reads a report as a browser would: elements with their attributes, and the words in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    words: str = ""
    inner: list[Element] = field(default_factory=list)

    def find(self, tag: str) -> list[Element]:
        """All elements of a tag, in the order of the text."""
        found = [self] if self.tag == tag else []
        return found + [element for child in self.inner for element in child.find(tag)]

    @property
    def text(self) -> str:
        """Its own words and those of all elements in it, without scripts."""
        parts = [self.words, *(child.text for child in self.inner if child.tag != "script")]
        return " ".join(" ".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inner.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].words += data


def read_html(text: str) -> Element:
    """The document; its tags must be closed in order."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    (document,) = reader.open
    return document


def outward_references(document: Element) -> list[str]:
    """What a browser would fetch: every attribute that names a resource, and imports in styles."""
    found = []
    names = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}

    def visit(element: Element) -> None:
        found.extend(element.attributes[name] for name in names & set(element.attributes))
        if element.tag == "style" or "style" in element.attributes:
            words = element.words + element.attributes.get("style", "")
            found.extend(word for word in ("@import", "url(") if word in words)
        for child in element.inner:
            visit(child)

    visit(document)
    return found

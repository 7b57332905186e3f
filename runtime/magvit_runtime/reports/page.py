"""The page of a report: a verdict, facts, and sections with tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

Tone = Literal["plain", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: Its text.
        tone: Its look: "good" and "bad" are for verdicts, "quiet" is for less important text.
        number: Whether it is a number, which is aligned to the right.
    """

    text: str
    tone: Tone = "plain"
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its column names, and rows of as many cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: The heading.
        text: One paragraph that says how to read the table and figure.
        table: A table, or None.
        figure: HTML of `magvit_runtime.reports.figures`, or None.
    """

    title: str
    text: str
    table: Table | None = None
    figure: str | None = None


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: The subject.
        verdict: The result, in a few words.
        facts: The facts that a reader needs to repeat it, by name.
        sections: The parts, in order.
    """

    title: str
    verdict: Cell
    facts: Mapping[str, str]
    sections: Sequence[Section]


def render_page(page: Page) -> str:
    """HTML of a page with its style, scripts and data.

    All text is escaped. The page forbids the browser every request, so it can only show embedded
    content.
    """
    environment = Environment(
        loader=PackageLoader("magvit_runtime.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [(section, Markup(section.figure or "")) for section in page.sections]
    has_figures = any(section.figure for section in page.sections)
    return environment.get_template("page.html.jinja").render(
        page=page,
        sections=sections,
        plotly=Markup(get_plotlyjs()) if has_figures else "",
    )

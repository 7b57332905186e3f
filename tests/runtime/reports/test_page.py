"""Pages: complete, escaped, and without requests to the network."""

from __future__ import annotations

import sys

import pytest
from runtime.reports.html_reading import outward_references, read_html

from magvit_runtime import MissingPackageError
from magvit_runtime.reports import check_report_packages
from magvit_runtime.reports.figures import grouped_bars, lines, ranges_with_limits
from magvit_runtime.reports.page import Cell, Page, Section, Table, render_page

HOSTILE = '</script><script src="https://example.com/x.js"></script><a href="//example.com">&'


def page(*sections: Section) -> Page:
    return Page("A title", Cell("fine", "good"), {"Name": "value"}, sections)


def test_all_parts_are_there() -> None:
    table = Table(("Name", "Count"), [[Cell("a"), Cell("3", "bad", number=True)]])
    document = read_html(render_page(page(Section("Part", "Read this.", table))))
    assert [h1.text for h1 in document.find("h1")] == ["A title"]
    assert [h2.text for h2 in document.find("h2")] == ["Part"]
    assert [cell.text for cell in document.find("th")] == ["Name", "Count"]
    name, count = document.find("td")
    assert (name.text, count.text) == ("a", "3")
    assert count.attributes["class"] == "bad number"
    assert document.find("dd")[0].text == "value"


def test_without_figures_it_is_small() -> None:
    assert len(render_page(page(Section("Part", "")))) < 10_000


def figures(label: str) -> list[str]:
    return [
        grouped_bars("a", [label], {label: [1]}, x_title="x", y_title="y"),
        lines("b", [label], {label: [1, None]}, x_title="x", y_title="y"),
        ranges_with_limits(
            "c", [label], [1], [(0.5, 2)], [3], value_name="value", limit_name="limit"
        ),
    ]


def test_it_fetches_nothing_and_is_forbidden_to() -> None:
    sections = [Section("Part", "", figure=figure) for figure in figures("a label")]
    text = render_page(page(*sections))
    document = read_html(text)
    assert outward_references(document) == []
    (policy,) = [
        meta.attributes["content"]
        for meta in document.find("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    # plotly.js once, and a script for each figure.
    scripts = document.find("script")
    assert len(scripts) == 1 + 3
    assert len(scripts[0].words) > 1_000_000
    assert all("Plotly.newPlot" in script.words for script in scripts[1:])


def test_the_users_words_are_words() -> None:
    cells = Table((HOSTILE,), [[Cell(HOSTILE)]])
    sections = [Section(HOSTILE, HOSTILE, cells, figure) for figure in figures(HOSTILE)]
    hostile = Page(HOSTILE, Cell(HOSTILE), {HOSTILE: HOSTILE}, sections)
    document = read_html(render_page(hostile))
    assert outward_references(document) == []
    assert len(document.find("script")) == 1 + 3
    assert document.find("a") == []
    assert {cell.text for cell in document.find("td")} == {HOSTILE}


def test_what_is_missing_is_named_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    check_report_packages()
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingPackageError) as error:
        check_report_packages()
    assert str(error.value) == (
        "a report (--report) needs Plotly, which isn't installed. "
        "Fix: pip install 'magvit-runtime[report]'"
    )

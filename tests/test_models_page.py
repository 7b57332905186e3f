"""docs/models.md and the record behind it are what their script writes now."""

from __future__ import annotations

from measure_scripts import FOLDER, load_script

from magvit_export.catalog import CATALOG
from magvit_export.model_records import graph_facts, recorded_verdicts

AGAIN = "run `python docs/measure/models_page.py`"


def test_the_page_is_what_the_script_writes() -> None:
    script = load_script("models_page")
    page = (FOLDER.parent / "models.md").read_text()
    assert page == script.page(graph_facts(), recorded_verdicts()), AGAIN


def test_the_record_of_graphs_is_what_is_counted() -> None:
    assert graph_facts() == load_script("models_page").counted(CATALOG), AGAIN


def test_cells_with_bars_stay_cells() -> None:
    script = load_script("models_page")
    table = script.ModelTable("Errors", ("name", "error"), (("z", "max|dz| 1e-5"),))
    assert script.markdown(table, "Of latents.\n") == (
        "## Errors\n\nOf latents.\n\n| name | error |\n| --- | --- |\n| z | max\\|dz\\| 1e-5 |\n"
    )

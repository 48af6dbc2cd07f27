"""An executed notebook as it is published: the source with outputs, no path of this machine, any error."""

import nbformat
import pytest
from execution import ROOT, execute
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
LINK = "[Solution](solutions/1_small.ipynb)"


@pytest.fixture
def notebook(tmp_path):
    def write(code):
        path = tmp_path / "1_small.ipynb"
        cells = [
            new_code_cell("seeds: int = 1  # how many", metadata={"tags": ["parameters"]}),
            new_markdown_cell(LINK),
            new_code_cell(code, metadata={"tags": ["verdicts"]}),
        ]
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
        return path

    return write


def test_an_executed_notebook_keeps_its_source_and_tells_no_place(notebook, tmp_path):
    folder = tmp_path / "profile"
    outcome = execute(notebook("print('claims'); print(f'{seeds} reproduced')"), folder, {"seeds": 3})
    assert (outcome.summary, outcome.failed, outcome.page) == ("3 reproduced", False, folder / "1_small.html")
    executed = nbformat.read(folder / "1_small.ipynb", as_version=4)
    assert LINK in [cell.source for cell in executed.cells]
    assert not executed.metadata.papermill.output_path.startswith("/")
    assert "../demo/solutions/1_small.html" in (folder / "1_small.html").read_text(encoding="utf-8")
    assert str(ROOT) not in (folder / "1_small.html").read_text(encoding="utf-8")


def test_a_failure_is_an_outcome_whose_page_shows_the_error(notebook, tmp_path):
    outcome = execute(notebook("raise ValueError('seeds is 0')"), tmp_path / "profile", {})
    assert (outcome.summary, outcome.failed) == ("FAILED: ValueError: seeds is 0", True)
    assert "seeds is 0" in outcome.page.read_text(encoding="utf-8")

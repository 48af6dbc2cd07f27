"""The HTML page beside an executed notebook: a table of contents, code and progress folded, no network."""

import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from outputs import one_progress

TEMPLATES = Path(__file__).resolve().parent / "templates"
_NOTEBOOK = re.compile(r"\]\(((?!\w+:)[^)\s]+)\.ipynb\)")  # a link to a notebook beside it


def write_page(executed: Path) -> Path:
    """Write an executed notebook's page, with links to other notebooks' pages, and return where it is."""
    exporter = HTMLExporter(
        template_name="companion", extra_template_basedirs=[str(TEMPLATES)], sanitize_html=False
    )
    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _NOTEBOOK.sub(lambda link: f"]({_page(link[1], executed)})", cell.source)
        else:
            cell.outputs = one_progress(cell.outputs)
    body, _ = exporter.from_notebook_node(
        notebook, {"metadata": {"name": executed.stem}, "contents": contents(notebook)}
    )
    page = executed.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


def _page(target: str, executed: Path) -> str:
    """Return the page that a link to a notebook leads to; profiles without solutions lead to the demo's."""
    solved = target.startswith("solutions/") and not (executed.parent / f"{target}.ipynb").exists()
    return f"../demo/{target}.html" if solved else f"{target}.html"


def contents(notebook: nbformat.NotebookNode) -> list[tuple[int, str, str]]:
    """Return the level, the anchor and the title of each section and subsection, in order."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in BeautifulSoup(markdown2html(cell.source), "html.parser").find_all(["h2", "h3"]):
                title = heading.get_text().removesuffix("¶")  # the link to itself, which pages leave out
                found.append((int(heading.name[1]) - 1, str(heading["id"]), title))
    return found

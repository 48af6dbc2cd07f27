"""The page beside an executed notebook can be navigated, hides its code, and needs no network."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from page import write_page


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> BeautifulSoup:
    code = nbformat.v4.new_code_cell("secret = 1", execution_count=1)
    code.outputs = [nbformat.v4.new_output("stream", name="stderr", text=f"{n} of 2 runs\n") for n in (1, 2)]
    code.outputs.append(nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}))
    code.metadata["mystnb"] = {"image": {"alt": "Two bars & a line."}}
    title = "## 2 Words & rules (section 3.2)"
    texts = (
        "# Title",
        title,
        "### The authors' variant",
        "[solved](solutions/1.ipynb), [elsewhere](solutions/2.ipynb), [not](a:b.ipynb)",
    )
    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    path = tmp_path_factory.mktemp("executed") / "notebook.ipynb"
    (path.parent / "solutions").mkdir()
    (path.parent / "solutions" / "1.ipynb").touch()
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, code]), path)
    return BeautifulSoup(write_page(path).read_text(encoding="utf-8"), "html.parser")


def test_the_contents_lead_to_every_section(page):
    links = page.find("nav", class_="contents").find_all("a")
    assert [link.get_text() for link in links] == ["2 Words & rules (section 3.2)", "The authors' variant"]
    assert all(page.find(id=link["href"][1:]) is not None for link in links)


def test_code_and_progress_are_folded(page):
    folded = page.find_all("details", class_="code")
    assert [part.summary.get_text() for part in folded] == ["code", "progress"]
    assert "secret" in folded[0].get_text()
    assert "1 of 2 runs\n2 of 2 runs" in folded[1].get_text()


def test_a_link_to_another_notebook_leads_to_its_page(page):
    links = {link.get_text(): link["href"] for link in page.find("main").find_all("a")}
    assert links["solved"] == "solutions/1.html"
    assert links["elsewhere"] == "../demo/solutions/2.html"  # of a profile without solutions of its own
    assert links["not"].endswith(".ipynb")


def test_nothing_is_loaded_from_the_network(page):
    assert not page.find_all("script", src=True)
    assert not page.find_all("link", href=re.compile("^(https?:)?//"))


def test_a_figure_has_its_alternative_text(page):
    assert [image["alt"] for image in page.find_all("img")] == ["Two bars & a line."]

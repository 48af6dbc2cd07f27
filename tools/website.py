"""Build the site from the executed notebooks as they are committed; nothing is executed.

    python tools/website.py

Needs what requirements-site.txt pins (``./run_all.sh --site`` makes an environment of its own for it). Pages
are staged in ``build/site``; the site is in ``build/site/_build/html``.
"""

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import browser
import nbformat
from board import PROFILES, board_html, read_agreement, read_claims
from bs4 import BeautifulSoup
from docutils.nodes import make_id
from outputs import one_progress

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
PAGES = SITE / "_build" / "html"
REAL = "real"  # the profile whose notebooks have pages beside the demo's
# Documents of the repository that are pages of the site, and the names that they have there.
DOCUMENTS = {
    "docs/results.md": "results.md",
    "docs/verdicts.md": "verdicts.md",
    "docs/scale.md": "scale.md",
    "docs/architecture.md": "architecture.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_MERMAID = re.compile(r"^```mermaid\n.*?^```\n", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Build the site, check its links, and open it in a browser; return the exit status."""
    stage()
    jupyter_book = str(Path(sys.executable).parent / "jupyter-book")
    command = [jupyter_book, "build", str(SITE), "--warningiserror", "--keep-going", "--quiet"]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own command
        return 1
    problems = list(broken_links(PAGES))
    executable = browser.chromium()
    if executable:
        problems += browser.problems(PAGES, SITE / "screenshots", executable)
    else:
        print("no Chromium found: the pages were not opened in a browser")
    print("\n".join(problems) if problems else f"site: {PAGES / 'index.html'}")
    return int(bool(problems))


def stage() -> None:
    """Gather all pages in the folder that Jupyter Book builds."""
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "site", SITE)
    for path, page in DOCUMENTS.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        (SITE / page).write_text(staged_markdown(text, ROOT / path), encoding="utf-8")
    links: dict[tuple[str, str], str] = {}
    for executed in _executed():
        links |= section_links(_stage_notebook(executed, SITE), executed.stem)
        _stage_notebook(executed.parent / "solutions" / executed.name, SITE / "solutions")
    for executed in sorted((ROOT / "notebooks" / "executed" / REAL).glob("[0-9]_*.ipynb")):
        _stage_notebook(executed, SITE / REAL)
    claims = read_claims(ROOT / "figures")
    agreement = read_agreement(ROOT / "docs" / "verdicts.csv")
    (SITE / "board.html").write_text(board_html(claims, agreement, links), encoding="utf-8")


def _stage_notebook(executed: Path, folder: Path) -> nbformat.NotebookNode:
    """Write an executed notebook as its page shows it, and return it; solutions are the demo's."""
    notebook = staged_notebook(nbformat.read(executed, as_version=4))
    solutions = "../solutions/" if folder.name == REAL else "solutions/"
    for cell in notebook.cells:
        cell.source = cell.source.replace("](solutions/", f"]({solutions}")
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / executed.name)
    return notebook


def _executed() -> list[Path]:
    """Return the executed notebooks that become pages: those of the first profile that is committed."""
    for profile in PROFILES:
        found = sorted((ROOT / "notebooks" / "executed" / profile).glob("[0-9]_*.ipynb"))
        if found:
            return found
    raise FileNotFoundError("notebooks/executed: no executed notebook; run ./run_all.sh first")


def staged_markdown(text: str, path: Path) -> str:
    """Return a document's text with links that work on the site.

    A link to another page of the site leads there; one to a file that is no page becomes plain text. Mermaid
    diagrams are left out, since drawing them needs the network.
    """
    pages = {(ROOT / document).resolve(): page for document, page in DOCUMENTS.items()}

    def replaced(link: re.Match[str]) -> str:
        label, target, anchor = link[1], link[2], link[3] or ""
        if urlsplit(target).scheme:
            return link[0]
        page = pages.get((path.parent / target).resolve())
        return f"[{label}]({page}{anchor})" if page else label

    return _LINK.sub(replaced, _MERMAID.sub("", text))


def section_links(notebook: nbformat.NotebookNode, stem: str) -> dict[tuple[str, str], str]:
    """Return, for each claim that a cell shows with ``study.table``, the address of that cell's section."""
    links: dict[tuple[str, str], str] = {}
    anchor = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE):
                anchor = make_id(title)
        else:
            for names in re.findall(r"study\.table\((.*?)\)", cell.source, re.DOTALL):
                for name in re.findall(r'"(\w+)"', names):
                    links.setdefault((stem, name), f"{stem}.html#{anchor}")
    return links


def staged_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an executed notebook as its page shows it: code and progress folded, wide tables in a box."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        outputs = one_progress([output for output in cell.outputs if not _is_widget(output)])
        cell.outputs = [_staged_output(output) for output in outputs]
    notebook.metadata.pop("widgets", None)
    return notebook


def _is_widget(output: nbformat.NotebookNode) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _staged_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.get("name") == "stderr":
        folded = f"<details><summary>progress</summary><pre>{html.escape(output.text)}</pre></details>"
        return nbformat.v4.new_output("display_data", {"text/html": folded})
    data = output.get("data", {})
    if "<table" in data.get("text/html", ""):
        data["text/html"] = f'<div class="wide">{data["text/html"]}</div>'
    return output


class _References(NamedTuple):
    """A page's anchors and what it refers to."""

    anchors: set[str]
    links: list[str]
    loaded: list[str]


def _references(page: Path) -> _References:
    content = BeautifulSoup(page.read_bytes(), "html.parser")

    def values(selector: str, name: str) -> list[str]:
        return [str(element[name]) for element in content.select(selector)]

    files = "link[rel~=stylesheet], link[rel~=icon], link[rel~=preload]"
    return _References(
        anchors={*values("[id]", "id"), *values("[name]", "name")},
        links=values("a[href]", "href"),
        loaded=values("img[src], script[src]", "src") + values(files, "href"),
    )


def broken_links(pages: Path) -> Iterator[str]:
    """Yield one line for each internal link that leads nowhere and each file loaded from the network."""
    read = {page.resolve(): _references(page) for page in browser.site_pages(pages)}
    for page, references in read.items():
        shown = page.relative_to(pages.resolve())
        for address in references.loaded:
            if urlsplit(address).netloc:
                yield f"{shown}: {address} is loaded from the network"
        for address in [*references.links, *references.loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                yield f"{shown}: {address} does not exist"
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].anchors:
                yield f"{shown}: {address} has no such section"


if __name__ == "__main__":
    sys.exit(main())

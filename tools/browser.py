"""Open every page of the site in headless Chromium, wide and narrow, and say what a reader stumbles over.

Needs Debian's or any other Chromium; the path is taken from ``CHROMIUM`` or looked up.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = (1280, 390)  # a laptop, and a phone
# Chromium's own traffic is switched off, and its sandbox, which needs privileges that containers lack.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
)


def chromium() -> str | None:
    """Return where Chromium is, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def site_pages(pages: Path) -> list[Path]:
    """Return the HTML files that are pages of the site; those in folders like ``_static`` are none."""
    return [
        path
        for path in sorted(pages.rglob("*.html"))
        if not any(part.startswith("_") for part in path.relative_to(pages).parts)
    ]


def problems(pages: Path, pictures: Path, executable: str) -> Iterator[str]:
    """Yield one line for each page that is too wide, misses an image, reports an error or asks the network.

    Parameters
    ----------
    pages : Path
        The folder with the site's HTML.
    pictures : Path
        Where screenshots go: ``<page>-<width>.png``, with ``-`` for a folder's ``/``.
    executable : str
        Chromium.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*_ARGUMENTS])
        for width in WIDTHS:
            for path in site_pages(pages):
                name = path.relative_to(pages).with_suffix("").as_posix()
                page = browser.new_page(viewport={"width": width, "height": 900})
                found: list[str] = []
                page.on("console", lambda said, found=found: _note(found, said.type, said.text))
                page.on("pageerror", lambda error, found=found: found.append(f"script error: {error}"))
                page.on("request", lambda request, found=found: _note_request(found, request.url))
                page.goto(path.as_uri(), wait_until="load")
                found += _measured(page)
                page.screenshot(path=pictures / f"{name.replace('/', '-')}-{width}.png", full_page=True)
                page.close()
                yield from (f"{name} at {width} pixels: {line}" for line in found)
        browser.close()


def _note(found: list[str], kind: str, text: str) -> None:
    if kind == "error":
        found.append(f"console error: {text}")


def _note_request(found: list[str], url: str) -> None:
    if not url.startswith(("file:", "data:", "blob:")):
        found.append(f"asks the network: {url}")


def _measured(page: Page) -> list[str]:
    """Return what is wrong with the layout."""
    lines = []
    excess = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if excess > 0:
        lines.append(f"{excess} pixels wider than the window: {page.evaluate(_WIDEST)}")
    missing = (
        "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
    )
    lines += [f"image missing: {source}" for source in page.evaluate(missing)]
    silent = "[...document.querySelectorAll('main img')].filter(image => !image.alt).map(image => image.src)"
    lines += [f"image without an alternative text: {source[:80]}" for source in page.evaluate(silent)]
    return lines


# The first element that sticks out of the window, unless it scrolls in a box of its own.
_WIDEST = """() => {
  for (const element of document.querySelectorAll("main *")) {
    const right = element.getBoundingClientRect().right;
    if (right > window.innerWidth + 1 && !element.closest(".wide, pre, .highlight")) {
      return element.outerHTML.slice(0, 120);
    }
  }
  return "no single element";
}"""

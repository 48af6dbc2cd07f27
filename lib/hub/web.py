"""Files on the web: fetched once, by their address."""

import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import datasets
from huggingface_hub.utils import get_session

from lib.errors import first_line
from lib.hub import waiting
from lib.hub.failures import LOGIN, Unreachable


def fetch(url: str) -> Path:
    """Return the local copy of a file on the web, downloading it first if necessary.

    Raises
    ------
    Unreachable
        If the server does not answer within ``waiting.SECONDS``, has no such file, or sends a web page in its
        place; if the download breaks off, or nothing has come for ``waiting.STALL_SECONDS``.
    """
    name = sha256(url.encode()).hexdigest()[:16] + PurePosixPath(urlsplit(url).path).suffix
    target = Path(datasets.config.DOWNLOADED_DATASETS_PATH) / name
    if target.is_file() and not _is_page(target):
        return target
    remedy = f"fetch it on a connected machine and give its local path, or put it at {str(target)!r}"
    if not _reachable(url):
        raise Unreachable(f"{url!r} does not answer; {remedy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / name

        def download(progress: waiting.Progress) -> None:
            patience = 2 * waiting.STALL_SECONDS  # it is `waiting.attend` that tells a stall
            with (
                get_session().stream("GET", url, timeout=patience, follow_redirects=True) as response,
                part.open("wb") as file,
            ):
                response.raise_for_status()
                for block in response.iter_bytes():
                    file.write(block)
                    progress.add(len(block))

        try:
            waiting.attend(download, waiting.STALL_SECONDS, url)
        except TimeoutError:
            stalled = f"the download stalled: nothing came for {waiting.STALL_SECONDS:.0f} s"
            raise Unreachable(f"{url!r}: {stalled}; {remedy}") from None
        except Exception as error:
            raise Unreachable(f"{url!r}: {first_line(error)}; {remedy}") from error
        if _is_page(part):
            raise Unreachable(f"{url!r}: a web page came in place of the file{LOGIN}; {remedy}")
        return part.replace(target)  # atomic: the file is complete or absent


def _reachable(url: str) -> bool:
    """Whether a server answers within ``waiting.SECONDS``; never if ``HF_HUB_OFFLINE`` is set."""
    answered = False

    def knock(_: waiting.Progress) -> None:
        nonlocal answered
        get_session().head(url, timeout=waiting.SECONDS)
        answered = True

    with suppress(Exception):  # any failure means that there was no answer
        waiting.attend(knock, waiting.SECONDS)
    return answered


def _is_page(path: Path) -> bool:
    """Whether a file is a web page, such as that by which a network asks for a login."""
    with path.open("rb") as file:
        start = file.read(1_024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))

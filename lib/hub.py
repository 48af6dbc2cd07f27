"""Download files and data sets, or fail within seconds with one line that says what to fetch by hand."""

import hashlib
import tempfile
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import datasets
from huggingface_hub import constants
from huggingface_hub.utils import get_session

SECONDS = 5.0  # until a server must have answered; huggingface_hub's own retries take half a minute
STALL_SECONDS = 30.0  # without a byte, once a server has answered


class Unreachable(ConnectionError):
    """The network, the Hub or a file is unavailable: one line saying what to fetch and where to put it."""


def reachable(url: str = constants.ENDPOINT) -> bool:
    """Return whether a server answers within ``SECONDS``; always false if ``HF_HUB_OFFLINE`` is set.

    The request runs in a daemon thread, because name resolution has no timeout.
    """
    answered = threading.Event()

    def knock() -> None:
        with suppress(Exception):  # any failure means that there was no answer
            get_session().head(url, timeout=SECONDS)
            answered.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answered.is_set()


def shelf(repository: str) -> Path:
    """Return the local folder that is searched for a Hub data set's files before the Hub is asked."""
    return Path(datasets.config.DOWNLOADED_DATASETS_PATH) / repository.replace("/", "--")


def load(repository: str) -> datasets.DatasetDict:
    """Load a data set from the Hub or, offline, from the cache of an earlier load.

    Parameters
    ----------
    repository : str
        A data set's id, ``owner/name``. The datasets library executes no remote code.

    Raises
    ------
    Unreachable
        Within seconds, if there is no network or no such data set.
    """
    remedy = (
        f"fetch its files from {constants.ENDPOINT}/datasets/{repository}/tree/main and put them as train*, "
        f"validation* and test* in {str(shelf(repository))!r}, or give a local path instead"
    )
    if not datasets.config.HF_HUB_OFFLINE and not reachable():
        raise Unreachable(
            f"data set {repository!r}: no file or folder here, and {constants.ENDPOINT} does not answer; "
            f"{remedy}, or set HF_HUB_OFFLINE=1 if it has been loaded on this machine before"
        )
    try:
        return datasets.load_dataset(repository)
    except Exception as error:  # a dozen types, none of which says what to do
        raise Unreachable(f"data set {repository!r}: {first_line(error)}; {remedy}") from error


def fetch(url: str) -> Path:
    """Return the local copy of a file on the web, downloading it first if necessary.

    Raises
    ------
    Unreachable
        Within seconds, if there is no network or no such file.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:16] + PurePosixPath(urlsplit(url).path).suffix
    target = Path(datasets.config.DOWNLOADED_DATASETS_PATH) / name
    if target.is_file():
        return target
    remedy = f"fetch it on a connected machine and give its local path, or put it at {str(target)!r}"
    if not reachable(url):
        raise Unreachable(f"{url!r} does not answer; {remedy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / name
        try:
            with (
                get_session().stream("GET", url, timeout=STALL_SECONDS, follow_redirects=True) as response,
                part.open("wb") as file,
            ):
                response.raise_for_status()
                for block in response.iter_bytes():
                    file.write(block)
        except Exception as error:
            raise Unreachable(f"{url!r}: {first_line(error)}; {remedy}") from error
        return part.replace(target)  # atomic: the file is complete or absent


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or its type's name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

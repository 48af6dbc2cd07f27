"""Files from the Hub and the web: found and fetched once, or one line within seconds that says why not.

A repository is asked for once: which commit, which files. What is needed of them is downloaded into
huggingface_hub's cache, and everybody after that is handed a folder. So nothing that runs for long depends on
the Hub: no run imports this module.
"""

import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import datasets
from huggingface_hub import HfApi, constants, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, validate_repo_id
from tqdm.auto import tqdm

from lib.errors import first_line

SECONDS = 10.0  # until a server must have answered a question
STALL_SECONDS = 30.0  # until the next byte of a download must have come
LOOK_SECONDS = 0.05  # between two looks at what goes on

# huggingface_hub tells of progress once per chunk: at its own 10 MB, a slow connection would look like none.
constants.DOWNLOAD_CHUNK_SIZE = 2**16

WORDS = {"model": "model", "dataset": "data set"}
LOGIN = " (does this network require a login?)"
RETRY = "files that came whole are kept: try again"

Kind = Literal["model", "dataset"]
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Unreachable(ConnectionError):
    """A repository or file is refused or unavailable: one line that says why and what would help."""


class NoAnswer(Unreachable):
    """The Hub does not answer, or says that it cannot at present; what was fetched before remains usable."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit.

    Attributes
    ----------
    kind : {"model", "dataset"}
    name : str
        ``owner/name``, as it was asked for.
    commit : str
        40 hex digits.
    files : mapping of str to int
        Size in bytes of each file, by its path.
    is_offline : bool
        The Hub was not asked: ``files`` are those that were fetched before.
    """

    kind: Kind
    name: str
    commit: str
    files: Mapping[str, int]
    is_offline: bool = False

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Return the files that match one of the patterns; ``*`` matches slashes, too."""
        return [file for file in self.files if any(fnmatchcase(file, pattern) for pattern in patterns)]

    def fetch(self, patterns: Sequence[str]) -> Path:
        """Return the folder of this commit, once all files that match one of the patterns are in it.

        Raises
        ------
        Unreachable
            If access is refused, the download breaks off, or nothing has come for ``STALL_SECONDS``.
        """
        if not self.is_offline:
            self._download(self.matching(patterns))
        try:
            return _cached_folder(self.kind, self.name, self.commit, patterns)
        except LocalEntryNotFoundError as error:
            raise Unreachable(f"{_shown(self.kind, self.name)}: {first_line(error)}") from error

    def _download(self, files: Sequence[str]) -> None:
        """Download files that are not in the cache, one after the other."""

        def download(progress: _Progress) -> None:
            # One at a time, in this thread: the threads of a pool could not be abandoned when the Hub hangs,
            # since Python waits for them before it ends.
            for file in files:
                hf_hub_download(
                    self.name, file, repo_type=self.kind, revision=self.commit, tqdm_class=progress.counter()
                )
                progress.end(self.files[file])

        label = _shown(self.kind, self.name)
        total = sum(self.files[file] for file in files)
        with _quiet() as said:
            try:
                _attend(download, STALL_SECONDS, label, total)
            except TimeoutError:
                why = f" ({'; '.join(said[-2:])})" if said else ""  # an error, and the wait
                reason = f"the download stalled: nothing came for {STALL_SECONDS:.0f} s{why}"
                raise Unreachable(f"{_shown(self.kind, self.name)}: {reason}; {RETRY}") from None
            except Exception as error:  # of a dozen types
                broke_off = f"the download broke off ({_failure(error) or _deepest(error)}); {RETRY}"
                reason = _refusal(error, self.kind, self.name) or broke_off
                raise Unreachable(f"{_shown(self.kind, self.name)}: {reason}") from error


@cache
def find(kind: Kind, source: str) -> Repository:
    """Ask the Hub once for a repository's commit and files; a process asks for each only once.

    If the Hub does not answer, a line in the log says so, and what was fetched before is used.

    Parameters
    ----------
    kind : {"model", "dataset"}
    source : str
        ``owner/name``, or ``owner/name@revision`` with a branch, a tag or a commit.

    Raises
    ------
    Unreachable
        Within ``SECONDS`` of the last answer: if there is no such repository or revision, access to it is
        refused, or there is neither an answer nor a copy in the cache.
    """
    name, _, revision = source.partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise Unreachable(f"{_shown(kind, source)}: {first_line(error)}") from error
    if revision and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", revision):
        raise Unreachable(
            f"{_shown(kind, source)}: {revision!r} is no revision; allowed: a branch, a tag or a commit"
        )
    if revision.startswith("refs/pr/"):
        raise Unreachable(
            f"{_shown(kind, source)}: a pull request, which nobody of the repository has accepted; "
            "allowed after @: a branch, a tag or a commit"
        )
    try:
        if constants.is_offline_mode():
            raise NoAnswer(
                f"{_shown(kind, source)}: HF_HUB_OFFLINE is set, and it has not been fetched before"
            )
        return _ask(kind, name, revision or None)
    except NoAnswer as no_answer:
        try:
            folder = _cached_folder(kind, name, revision or None, [])
        except LocalEntryNotFoundError:
            raise no_answer from None
        if not constants.is_offline_mode():
            logger.warning("%s; commit %s, fetched before, is used", no_answer, folder.name)
        present = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in present}
        return Repository(kind, name, folder.name, files, is_offline=True)


def reachable(url: str) -> bool:
    """Return whether a server answers within ``SECONDS``; always false if ``HF_HUB_OFFLINE`` is set."""
    answered = False

    def knock(_: "_Progress") -> None:
        nonlocal answered
        get_session().head(url, timeout=SECONDS)
        answered = True

    with suppress(Exception):  # any failure means that there was no answer
        _attend(knock, SECONDS)
    return answered


def shelf(repository: str) -> Path:
    """Return the local folder that is searched for a Hub data set's files before the Hub is asked."""
    return Path(datasets.config.DOWNLOADED_DATASETS_PATH) / repository.replace("/", "--")


def fetch(url: str) -> Path:
    """Return the local copy of a file on the web, downloading it first if necessary.

    Raises
    ------
    Unreachable
        If the server does not answer within ``SECONDS``, has no such file, or sends a web page in its place;
        if the download breaks off, or nothing has come for ``STALL_SECONDS``.
    """
    name = sha256(url.encode()).hexdigest()[:16] + PurePosixPath(urlsplit(url).path).suffix
    target = Path(datasets.config.DOWNLOADED_DATASETS_PATH) / name
    if target.is_file() and not _is_page(target):
        return target
    remedy = f"fetch it on a connected machine and give its local path, or put it at {str(target)!r}"
    if not reachable(url):
        raise Unreachable(f"{url!r} does not answer; {remedy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / name

        def download(progress: _Progress) -> None:
            patience = 2 * STALL_SECONDS  # it is _attend that tells a stall
            with (
                get_session().stream("GET", url, timeout=patience, follow_redirects=True) as response,
                part.open("wb") as file,
            ):
                response.raise_for_status()
                for block in response.iter_bytes():
                    file.write(block)
                    progress.add(len(block))

        try:
            _attend(download, STALL_SECONDS, url)
        except TimeoutError:
            stalled = f"the download stalled: nothing came for {STALL_SECONDS:.0f} s"
            raise Unreachable(f"{url!r}: {stalled}; {remedy}") from None
        except Exception as error:
            raise Unreachable(f"{url!r}: {first_line(error)}; {remedy}") from error
        if _is_page(part):
            raise Unreachable(f"{url!r}: a web page came in place of the file{LOGIN}; {remedy}")
        return part.replace(target)  # atomic: the file is complete or absent


def _ask(kind: Kind, name: str, revision: str | None) -> Repository:
    """Ask the Hub for a commit and its files."""

    def ask(progress: _Progress) -> Repository:
        api = HfApi()
        commit = api.resolve_revision(name, repo_type=kind, revision=revision).resolved
        progress.add()
        describe = api.model_info if kind == "model" else api.dataset_info
        info = describe(name, revision=commit, timeout=SECONDS, files_metadata=True)
        progress.add()
        # No file, only the listing, which huggingface_hub keeps: without the Hub, an incomplete copy is
        # recognised by it.
        snapshot_download(
            name, repo_type=kind, revision=commit, allow_patterns=[], tqdm_class=progress.counter()
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        return Repository(kind, name, commit, sizes)

    with _quiet():
        try:
            return _attend(ask, SECONDS)
        except TimeoutError:
            raise NoAnswer(
                f"{_shown(kind, name)}: {constants.ENDPOINT} does not answer within {SECONDS:.0f} s"
            ) from None
        except Exception as error:  # of a dozen types
            refused = _refusal(error, kind, name, revision)
            if refused:
                raise Unreachable(f"{_shown(kind, name)}: {refused}") from error
            failure = _failure(error) or f"{constants.ENDPOINT} does not answer ({_deepest(error)})"
            raise NoAnswer(f"{_shown(kind, name)}: {failure}") from error


def _shown(kind: Kind, source: str) -> str:
    return f"{WORDS[kind]} {source!r}"


def _cached_folder(kind: Kind, name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Return the folder of a commit in the cache, if all files that match a pattern are there."""
    folder = snapshot_download(
        name, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=True
    )
    return Path(folder)


def _refusal(error: BaseException, kind: Kind, name: str, revision: str | None = None) -> str:
    """Say why the Hub refuses a request, and what would help; "" if it does not, but fails."""
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    log_in = "run `hf auth login` with a read token of your Hub settings (or set HF_TOKEN)"
    error = next((cause for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), error)
    if isinstance(error, GatedRepoError):
        return f"gated: ask for access on {page}, then {log_in}"
    if isinstance(error, RevisionNotFoundError):
        return f"there is no revision {revision!r}; allowed after @: a branch, a tag or a commit of {page}"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such {WORDS[kind]} on {constants.ENDPOINT}, or it is private: if so, {log_in}"
    if not isinstance(error, HfHubHTTPError):
        return ""
    status = error.response.status_code
    if status == 401:
        if get_token():
            return f"the Hub does not accept your token (has it expired?): {log_in}, or remove it"
        return f"the Hub requires a token: {log_in}"
    if status == 403:
        return f"the Hub forbids it ({error.server_message or 'status 403'}): see {page}, then {log_in}"
    if status < 500 and status != 429:
        return first_line(error)
    return ""


def _failure(error: BaseException) -> str:
    """Say how the Hub answers, if it answers that it cannot at present or something else answers for it."""
    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            if status == 429:
                wait = cause.response.headers.get("Retry-After")
                return "too many requests (status 429): try again " + (f"in {wait} s" if wait else "later")
            return f"{constants.ENDPOINT} fails with status {status}: try again later"
        if isinstance(cause, json.JSONDecodeError):
            return f"{constants.ENDPOINT} answers with a web page{LOGIN}"
    return ""


def _deepest(error: BaseException) -> str:
    return first_line(list(_causes(error))[-1])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_page(path: Path) -> bool:
    """Whether a file is a web page, such as that by which a network asks for a login."""
    with path.open("rb") as file:
        start = file.read(1_024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


class _Progress:
    """Signs of life of a piece of work, and the bytes that it has brought."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self._whole = self._part = 0

    def add(self, count: int = 0) -> None:
        """Note a sign of life, and how many bytes came with it."""
        self.last = time.monotonic()
        self._part += count

    def end(self, size: int) -> None:
        """Note that a file of this size is complete, however many of its bytes had to come."""
        self.last = time.monotonic()
        self._whole, self._part = self._whole + size, 0

    @property
    def bytes(self) -> int:
        return self._whole + self._part

    def counter(self) -> type[tqdm]:
        """Return what huggingface_hub takes for a class of progress bars."""
        progress = self

        class Counter(tqdm):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **{**named, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                progress.add(int(n or 0))
                return None

        return Counter


def _attend(work: Callable[[_Progress], T], patience: float, label: str = "", total: int | None = None) -> T:
    """Return what a piece of work returns, with a progress bar, unless it shows no sign of life for too long.

    The work is done in a daemon thread, which is abandoned then: neither the look-up of a name nor a library
    that tries again and again can be interrupted.

    Raises
    ------
    TimeoutError
        After ``patience`` seconds without a sign of life.
    """
    progress = _Progress()
    outcome: Future[T] = Future()

    def carry_out() -> None:
        try:
            outcome.set_result(work(progress))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=carry_out, daemon=True).start()
    shown = tqdm(
        total=total,
        desc=label,
        unit="B",
        unit_scale=True,
        delay=2,
        mininterval=5,
        leave=False,
        disable=not label,
    )
    with shown as bar:
        while not outcome.done():
            with suppress(TimeoutError):
                outcome.exception(LOOK_SECONDS)
            bar.update(progress.bytes - bar.n)
            if not outcome.done() and time.monotonic() - progress.last > patience:
                raise TimeoutError
    return outcome.result()


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Collect what huggingface_hub logs, such as its repeated attempts, instead of showing it."""
    said: list[str] = []
    library = logging.getLogger("huggingface_hub")
    handlers, level, collector = library.handlers, library.level, logging.Handler()
    collector.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    library.handlers = [collector]
    library.setLevel(logging.INFO)  # at which it tells that another process downloads the same file
    try:
        yield said
    finally:
        library.handlers = handlers
        library.setLevel(level)

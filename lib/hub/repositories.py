"""Repositories of the Hub: found at one commit, and fetched to a folder of huggingface_hub's cache."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import datasets
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from lib.errors import first_line
from lib.hub import waiting
from lib.hub.failures import Kind, NoAnswer, Unreachable, deepest_cause, shown, why_failed, why_refused

CHUNK_SIZE = 2**16  # bytes

RETRY = "files that came whole are kept: try again"

logger = logging.getLogger(__name__)


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
            If access is refused, the download breaks off, or nothing has come for ``waiting.STALL_SECONDS``.
        """
        if not self.is_offline:
            self._download(self.matching(patterns))
        try:
            return _cached_folder(self.kind, self.name, self.commit, patterns)
        except LocalEntryNotFoundError as error:
            raise Unreachable(f"{shown(self.kind, self.name)}: {first_line(error)}") from error

    def _download(self, files: Sequence[str]) -> None:
        """Download files that are not in the cache, one after the other."""

        def download(progress: waiting.Progress) -> None:
            # One at a time, in this thread: the threads of a pool could not be abandoned when the Hub hangs,
            # since Python waits for them before it ends.
            for file in files:
                hf_hub_download(
                    self.name, file, repo_type=self.kind, revision=self.commit, tqdm_class=progress.counter()
                )
                progress.end(self.files[file])

        label = shown(self.kind, self.name)
        total = sum(self.files[file] for file in files)
        with _quiet() as said, _small_chunks():
            try:
                waiting.attend(download, waiting.STALL_SECONDS, label, total)
            except TimeoutError:
                why = f" ({'; '.join(said[-2:])})" if said else ""  # an error, and the wait
                reason = f"the download stalled: nothing came for {waiting.STALL_SECONDS:.0f} s{why}"
                raise Unreachable(f"{shown(self.kind, self.name)}: {reason}; {RETRY}") from None
            except Exception as error:  # of a dozen types
                broke_off = f"the download broke off ({why_failed(error) or deepest_cause(error)}); {RETRY}"
                reason = why_refused(error, self.kind, self.name) or broke_off
                raise Unreachable(f"{shown(self.kind, self.name)}: {reason}") from error


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
        Within ``waiting.SECONDS`` of the last answer: if there is no such repository or revision, access to
        it is refused, or there is neither an answer nor a copy in the cache.
    """
    name, _, revision = source.partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise Unreachable(f"{shown(kind, source)}: {first_line(error)}") from error
    if revision and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", revision):
        raise Unreachable(
            f"{shown(kind, source)}: {revision!r} is no revision; allowed: a branch, a tag or a commit"
        )
    if revision.startswith("refs/pr/"):
        raise Unreachable(
            f"{shown(kind, source)}: a pull request, which nobody of the repository has accepted; "
            "allowed after @: a branch, a tag or a commit"
        )
    try:
        if constants.is_offline_mode():
            raise NoAnswer(
                f"{shown(kind, source)}: HF_HUB_OFFLINE is set, and it has not been fetched before"
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


def shelf(repository: str) -> Path:
    """Return the local folder that is searched for a Hub data set's files before the Hub is asked."""
    return Path(datasets.config.DOWNLOADED_DATASETS_PATH) / repository.replace("/", "--")


def _ask(kind: Kind, name: str, revision: str | None) -> Repository:
    """Ask the Hub for a commit and its files."""

    def ask(progress: waiting.Progress) -> Repository:
        api = HfApi()
        commit = api.resolve_revision(name, repo_type=kind, revision=revision).resolved
        progress.add()
        describe = api.model_info if kind == "model" else api.dataset_info
        info = describe(name, revision=commit, timeout=waiting.SECONDS, files_metadata=True)
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
            return waiting.attend(ask, waiting.SECONDS)
        except TimeoutError:
            raise NoAnswer(
                f"{shown(kind, name)}: {constants.ENDPOINT} does not answer within {waiting.SECONDS:.0f} s"
            ) from None
        except Exception as error:  # of a dozen types
            refused = why_refused(error, kind, name, revision)
            if refused:
                raise Unreachable(f"{shown(kind, name)}: {refused}") from error
            failure = why_failed(error) or f"{constants.ENDPOINT} does not answer ({deepest_cause(error)})"
            raise NoAnswer(f"{shown(kind, name)}: {failure}") from error


def _cached_folder(kind: Kind, name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Return the folder of a commit in the cache, if all files that match a pattern are there."""
    folder = snapshot_download(
        name, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=True
    )
    return Path(folder)


@contextmanager
def _small_chunks() -> Iterator[None]:
    """Make huggingface_hub tell of progress more often than every 10 MB: slow would look like stalled."""
    before = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_SIZE
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = before


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

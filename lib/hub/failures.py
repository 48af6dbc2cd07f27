"""Why the Hub or the web does not give what it is asked for: one line, and what would help."""

import json
from collections.abc import Iterator
from typing import Literal

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lib.errors import first_line

WORDS = {"model": "model", "dataset": "data set"}
LOGIN = " (does this network require a login?)"

Kind = Literal["model", "dataset"]


class Unreachable(ConnectionError):
    """A repository or file is refused or unavailable: one line that says why and what would help."""


class NoAnswer(Unreachable):
    """The Hub does not answer, or says that it cannot at present; what was fetched before remains usable."""


def shown(kind: Kind, source: str) -> str:
    """Return how a line calls a repository: data set 'owner/name'."""
    return f"{WORDS[kind]} {source!r}"


def why_refused(error: BaseException, kind: Kind, name: str, revision: str | None = None) -> str:
    """Say why the Hub refuses a request, and what would help; "" if it failed rather than refused."""
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


def why_failed(error: BaseException) -> str:
    """Describe a failure that the Hub reports, or an answer sent by something else, such as a login page."""
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


def deepest_cause(error: BaseException) -> str:
    """Return the first line of the error that all others follow from."""
    return first_line(list(_causes(error))[-1])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

"""The Hub and the web: once and quickly, or one line that says why not."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import loopback_hub
import pytest
from huggingface_hub import constants
from loopback_hub import Hub

from lib import hub
from lib.hub import repositories, waiting

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 200_000,
    "README.md": b"read me",
    "odd.bin": b"pickle",
}
PATTERNS = ("config.json", "*.safetensors")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "SECONDS", 2.0)
    monkeypatch.setattr(waiting, "STALL_SECONDS", 2.0)


def fetch(source: str = "acme/model", patterns: tuple[str, ...] = PATTERNS) -> Path:
    return hub.find("model", source).fetch(patterns)


def refusal(source: str = "acme/model") -> str:
    """The line that a refused or failed fetch says, which comes within seconds."""
    start = time.monotonic()
    with pytest.raises(hub.Unreachable) as raised:
        fetch(source)
    assert time.monotonic() - start < 10
    assert "\n" not in str(raised.value)
    assert source.partition("@")[0] in str(raised.value)
    return str(raised.value)


def test_what_is_needed_is_fetched_once_to_a_folder_of_the_commit(small_hub: Hub):
    commit = small_hub.add("model", "acme/model", FILES)
    folder = fetch()
    assert folder.name == commit
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }
    with small_hub.watch() as requests:
        assert fetch() == folder
    assert requests == []


def test_a_few_requests_suffice(small_hub: Hub):
    small_hub.add("model", "acme/model", FILES)
    fetch()
    # which commit, what it holds (twice, in two forms); where a file is, the file, and a large one's own host
    assert len(small_hub.requests) <= 3 + 2 * 3
    assert not any(
        "refs/pr" in request.path or "discussions" in request.path for request in small_hub.requests
    )


def test_only_our_downloads_tell_of_progress_more_often(small_hub: Hub, monkeypatch):
    small_hub.add("model", "acme/model", FILES)
    before = constants.DOWNLOAD_CHUNK_SIZE
    told = []
    monkeypatch.setattr(waiting.Progress, "add", lambda progress, count=0: told.append(count))
    fetch()
    assert max(told) == repositories.CHUNK_SIZE < before == constants.DOWNLOAD_CHUNK_SIZE


def test_a_revision_is_pinned(small_hub: Hub):
    first = small_hub.add("model", "acme/model", {"config.json": b"1"})
    second = small_hub.add("model", "acme/model", {"config.json": b"2"})
    assert (fetch().name, fetch(f"acme/model@{first}").name) == (second, first)
    assert (fetch(f"acme/model@{first}") / "config.json").read_bytes() == b"1"
    assert "there is no revision 'v9'; allowed after @: a branch, a tag or a commit" in refusal(
        "acme/model@v9"
    )
    assert "'../x' is no revision" in refusal("acme/model@../x")


def test_a_pull_request_is_refused(small_hub: Hub):
    small_hub.add("model", "acme/model", {"config.json": b"{}"})
    small_hub.add_pull_request("acme/model", FILES)
    assert "a pull request, which nobody of the repository has accepted" in refusal("acme/model@refs/pr/15")


def test_the_token_stays_with_the_hub(small_hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    small_hub.add("model", "acme/model", FILES, private=True)
    fetch()
    sent = {request.host.partition(":")[0]: request.token for request in small_hub.requests}
    assert sent == {"127.0.0.1": "hf_member", "localhost": ""}


REFUSALS = {
    "no such repository": ({}, "", "there is no such model on http://127.0.0.1"),
    "a name with a word of the refusals": ({}, "", "there is no such model"),
    "private": ({"private": True}, "", "or it is private: if so, run `hf auth login`"),
    "private to others": ({"private": True}, "hf_stranger", "or it is private"),
    "gated": ({"gated": True}, "", "gated: ask for access on http://127.0.0.1"),
    "gated, no access yet": ({"gated": True}, "hf_stranger", "gated: ask for access on http://127.0.0.1"),
    "expired token": ({"private": False}, "hf_expired", "does not accept your token (has it expired?)"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_its_true_reason(small_hub: Hub, monkeypatch, case: str):
    access, token, reason = REFUSALS[case]
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if access:
        small_hub.add("model", "acme/aggregated-bert", FILES, **access)
    assert refusal("acme/aggregated-bert").startswith("model 'acme/aggregated-bert': ")
    assert reason in refusal("acme/aggregated-bert")


FAULTS = {
    "hangs on /api": ("GET /api", loopback_hub.hang, "does not answer within 2 s"),
    "fails on /api": ("GET /api", loopback_hub.status(500), "fails with status 500: try again later"),
    "too many requests": (
        "/api",
        loopback_hub.status(429, Retry_After="300"),
        "status 429): try again in 300 s",
    ),
    "a login page": (
        "",
        loopback_hub.login_page,
        "answers with a web page (does this network require a login?)",
    ),
    "a login page for files": (
        "/resolve/",
        loopback_hub.login_page,
        "does not seem to be served by a Hugging Face",
    ),
    "hangs on files": ("GET /large", loopback_hub.hang, "the download stalled: nothing came for 2 s"),
    "hangs on questions for files": ("HEAD", loopback_hub.hang, "the download stalled: nothing came for 2 s"),
    "fails on files": ("GET /large", loopback_hub.status(500), "broke off (http://127.0.0.1"),
    "fails on questions for files": (
        "HEAD",
        loopback_hub.status(503),
        "(HTTP Error 503 thrown while requesting HEAD",
    ),
    "waits on files": ("HEAD", loopback_hub.status(429, Retry_After="300"), "Rate limited. Waiting 301.0s"),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.usefixtures("impatient")
def test_a_hub_that_fails_is_one_line_within_seconds(small_hub: Hub, case: str):
    pattern, fault, reason = FAULTS[case]
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [(pattern, fault)]
    assert reason in refusal()


def test_a_download_that_breaks_off_is_resumed(small_hub: Hub):
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [("GET /large", loopback_hub.break_off(150_000))]
    assert (fetch() / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_download_that_breaks_off_at_once_each_time_says_so(small_hub: Hub):
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [("GET /large", loopback_hub.break_off(0))]
    assert "the download broke off (" in refusal()


def test_a_hub_that_is_late_is_waited_for(small_hub: Hub, monkeypatch):
    """Each answer has its own deadline; so has each byte."""
    monkeypatch.setattr(waiting, "SECONDS", 2.0)
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [("acme|large", loopback_hub.late(0.7))]
    assert fetch().is_dir()


def test_a_hub_that_is_gone_does_no_harm_to_what_was_fetched(small_hub: Hub, caplog):
    small_hub.add("model", "acme/model", FILES)
    folder = fetch()
    small_hub.faults = [("", loopback_hub.status(503))]
    assert fetch() == folder  # in this process nothing is asked
    hub.find.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert fetch() == folder  # in the next one a line says what is used
    assert (
        f"fails with status 503: try again later; commit {folder.name}, fetched before, is used"
        in caplog.text
    )


def test_without_a_network_what_was_fetched_is_used(small_hub: Hub, monkeypatch):
    small_hub.add("model", "acme/model", FILES)
    folder = fetch()
    hub.find.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with small_hub.watch() as requests:
        assert fetch() == folder
        assert "HF_HUB_OFFLINE is set, and it has not been fetched before" in refusal("acme/other")
    assert requests == []


@pytest.mark.usefixtures("impatient")
def test_an_incomplete_copy_is_not_taken_for_a_complete_one(small_hub: Hub, monkeypatch):
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [("GET /large", loopback_hub.hang)]
    refusal()
    hub.find.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "is incomplete: 1 file(s) are missing (model.safetensors)" in refusal()


def test_a_process_ends_at_once_though_a_download_hangs(small_hub: Hub, tmp_path: Path):
    """Python waits for the threads of a pool before it ends; huggingface_hub's retries would take minutes."""
    small_hub.add("model", "acme/model", FILES)
    small_hub.faults = [("HEAD", loopback_hub.hang)]
    code = (
        "from lib.hub import find, waiting; waiting.STALL_SECONDS = 1; "
        "find('model', 'acme/model').fetch(['*'])"
    )
    start = time.monotonic()
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "Unreachable: model 'acme/model': the download stalled" in ended.stderr.splitlines()[-1]
    assert time.monotonic() - start < 30


def test_a_login_page_is_no_csv_and_is_not_kept(small_hub: Hub):
    url = f"{small_hub.url}/web/texts.csv"
    small_hub.web["/web/texts.csv"] = b"text,label\n"
    small_hub.faults = [("/web/", loopback_hub.login_page)]
    with pytest.raises(hub.Unreachable, match="a web page came in place of the file"):
        hub.fetch(url)
    small_hub.faults = []
    kept = hub.fetch(url)
    assert kept.read_bytes() == b"text,label\n"
    kept.write_bytes(b"<html>a page that an earlier version kept</html>")
    assert hub.fetch(url).read_bytes() == b"text,label\n"


@pytest.mark.usefixtures("impatient")
def test_a_file_that_stalls_is_one_line(small_hub: Hub):
    small_hub.web["/web/texts.csv"] = b"text,label\n"
    small_hub.faults = [("GET /web/", loopback_hub.hang)]
    with pytest.raises(
        hub.Unreachable, match="the download stalled: nothing came for 2 s; fetch it on a conn"
    ):
        hub.fetch(f"{small_hub.url}/web/texts.csv")

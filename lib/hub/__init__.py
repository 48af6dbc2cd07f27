"""Files from the Hub and the web: found and fetched once, or one line within seconds that says why not.

A repository is asked for once: which commit, which files. What is needed of them is downloaded into
huggingface_hub's cache, and everybody after that is handed a folder. So nothing that runs for long depends on
the Hub: no run imports this room.
"""

from lib.hub.failures import NoAnswer, Unreachable
from lib.hub.repositories import Repository, find, shelf
from lib.hub.web import fetch

__all__ = ["NoAnswer", "Repository", "Unreachable", "fetch", "find", "shelf"]

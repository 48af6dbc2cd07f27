"""Environment variables that are changed for a moment."""

import os

import pytest

from lib.environment import changed_environment


def test_changed_variables_are_put_back_even_after_an_error(monkeypatch):
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.delenv("NEW", raising=False)

    def fail():
        with changed_environment({"CHANGED": "after", "NEW": "1"}):
            assert (os.environ["CHANGED"], os.environ["NEW"]) == ("after", "1")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.environ["CHANGED"] == "before"
    assert "NEW" not in os.environ

"""Folders that are complete or absent."""

import pytest

from lib.whole_folder import whole_folder


def write_half(target):
    with whole_folder(target) as folder:
        (folder / "half").write_text("of it")
        raise KeyError


def test_a_folder_is_there_once_all_is_in_it(tmp_path):
    target = tmp_path / "missing" / "model"
    with whole_folder(target) as folder:
        assert folder.name == "model"
        (folder / "weights").write_text("all")
        assert not target.exists()
    assert (target / "weights").read_text() == "all"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        write_half(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_has_finished_meanwhile_stays(tmp_path):
    target = tmp_path / "model"
    with whole_folder(target) as slow, whole_folder(target) as fast:
        (slow / "weights").write_text("the second")
        (fast / "weights").write_text("the first")
    assert (target / "weights").read_text() == "the first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    target = tmp_path / "model"
    target.write_text("a file")
    with pytest.raises(NotADirectoryError), whole_folder(target) as folder:
        (folder / "weights").write_text("all")
    assert list(tmp_path.iterdir()) == [target]

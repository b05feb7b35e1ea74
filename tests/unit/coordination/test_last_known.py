from __future__ import annotations

import pytest

from headgate.coordination.last_known import LastKnown
from headgate.engine.records import Record

FOLDERS = {
    "policies": {"api": Record("api", '{"version": 1}', 7)},
    "settings": {"é\ud800/": Record("é\ud800/", "{}", 2**60)},
    "tokens": {},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last-known.json"


def test_what_was_written_can_be_read_again(path):
    LastKnown(path, "c").write(FOLDERS)
    assert LastKnown(path, "c").read() == FOLDERS
    assert path.stat().st_mode & 0o777 == 0o600


def test_there_may_be_none(path, caplog):
    assert LastKnown(path, "c").read() is None
    nowhere = LastKnown(None, "c")
    nowhere.write(FOLDERS)
    assert nowhere.read() is None
    assert caplog.text == ""


def test_of_another_cluster_it_is_ignored(path, caplog):
    LastKnown(path, "theirs").write(FOLDERS)
    assert LastKnown(path, "ours").read() is None
    assert "of the cluster 'theirs'" in caplog.text


@pytest.mark.parametrize("end", range(0, 200, 7))
def test_cut_off_it_is_ignored(path, end):
    LastKnown(path, "c").write(FOLDERS)
    path.write_bytes(path.read_bytes()[:end])
    assert LastKnown(path, "c").read() is None


@pytest.mark.parametrize("content", [b"", b"{}\n{}", b"[]\n[]", b"\xff", b"[" * 100_000, b"1\n2"])
def test_rubbish_is_ignored(path, content, caplog):
    path.write_bytes(content)
    assert LastKnown(path, "c").read() is None
    assert "cannot be used" in caplog.text


def test_a_directory_in_its_place_is_ignored_and_does_not_stop_writing(path, caplog):
    path.mkdir()
    known = LastKnown(path, "c")
    assert known.read() is None
    known.write(FOLDERS)
    assert "could not be kept" in caplog.text
    assert [each.name for each in path.parent.iterdir()] == ["last-known.json"]


def test_what_is_the_same_is_not_written_again(path):
    known = LastKnown(path, "c")
    known.write(FOLDERS)
    path.unlink()
    known.write(FOLDERS)
    assert not path.exists()
    known.write({})
    assert path.exists()

"""What is written is whole or not there, and what was there before is kept."""

import os
import signal

import pytest
from processes import python

from minigpt_repl import files
from minigpt_repl.errors import MiniGPTError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "x.json"
    files.write_bytes_atomically(path, b"one")
    files.write_bytes_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["x.json"]


def test_the_old_file_stays_if_writing_fails_halfway(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with (
        pytest.raises(RuntimeError, match="halfway"),
        files.open_atomically(path) as file,
    ):
        file.write(b"ne")
        raise RuntimeError("halfway")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(MiniGPTError, match="the disk is full") as raised:
        files.write_bytes_atomically(path, b"new")
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(MiniGPTError, match=r"can't write .*No such file"):
        files.write_bytes_atomically(tmp_path / "no" / "x", b"")


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = f"""
        import os, signal
        from pathlib import Path
        from minigpt_repl.files import open_atomically
        with open_atomically(Path({str(path)!r})) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = python(code)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    files.write_bytes_atomically(path, b"new")
    assert names(tmp_path) == ["x"]


def test_a_folder_appears_only_when_it_is_finished(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(KeyboardInterrupt), files.open_directory_atomically(path) as d:
        (d / "a").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []
    # What a killed process leaves; no process has this number.
    folder(tmp_path / f".x.{2**31 - 1}.part", a="half")
    with files.open_directory_atomically(path) as made:
        (made / "a").write_text("whole")
        assert not path.exists()
    assert names(tmp_path) == ["x"]
    assert (path / "a").read_text() == "whole"


def folder(path, **texts):
    path.mkdir()
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def make_folder(path, **texts):
    with files.open_directory_atomically(path) as made:
        for name, text in texts.items():
            (made / name).write_text(text)


def test_a_folder_takes_an_empty_place(tmp_path):
    make_folder(tmp_path / "x", a="1")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "a").read_text() == "1"


def test_nothing_of_the_old_content_stays(tmp_path):
    old = folder(tmp_path / "x", a="old", b="old")
    make_folder(old, a="new")
    assert names(tmp_path) == ["x"]
    assert names(old) == ["a"]
    assert (old / "a").read_text() == "new"


def test_a_file_in_the_way_is_kept(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(MiniGPTError, match="a file is in the way"):
        make_folder(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"
    assert names(tmp_path) == ["x"]


def test_the_old_folder_comes_back_if_the_second_rename_fails(tmp_path, monkeypatch):
    old = folder(tmp_path / "x", a="old")
    rename = os.rename

    def failing(source, target):
        if source.suffix == ".part":
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(MiniGPTError, match="Permission denied"):
        make_folder(old, a="new")
    assert (old / "a").read_text() == "old"


def test_a_crash_between_the_renames_leaves_the_old_folder_whole(tmp_path):
    old = folder(tmp_path / "x", a="old")
    code = f"""
        import os, signal
        from pathlib import Path
        from minigpt_repl import files
        rename = os.rename
        def first_only(source, target):
            if source.suffix == ".part":
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)
        os.rename = first_only
        with files.open_directory_atomically(Path({str(old)!r})) as made:
            (made / "a").write_text("new")
    """
    done = python(code)
    assert done.returncode == -signal.SIGKILL
    assert not old.exists() and (tmp_path / ".x.old").is_dir()
    files.recover_directory(old)
    assert (old / "a").read_text() == "old"
    make_folder(old, a="new")
    assert (old / "a").read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_what_a_link_stands_for_is_written_again_and_again_and_the_link_stays(tmp_path):
    (tmp_path / "disk" / "model").mkdir(parents=True)
    (tmp_path / "disk" / "a.json").write_text("old")
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    (tmp_path / "a.json").symlink_to(tmp_path / "disk" / "a.json")
    for content in ("1", "2", "3"):
        with files.open_directory_atomically(tmp_path / "model") as made:
            (made / "weights").write_text(content)
        files.write_bytes_atomically(tmp_path / "a.json", content.encode())
        assert (tmp_path / "disk" / "model" / "weights").read_text() == content
        assert (tmp_path / "disk" / "a.json").read_text() == content
    assert (tmp_path / "model").is_symlink() and (tmp_path / "a.json").is_symlink()
    assert sorted(os.listdir(tmp_path / "disk")) == ["a.json", "model"]
    assert sorted(os.listdir(tmp_path)) == ["a.json", "disk", "model"]

"""Files and folders are the old ones or the whole new ones, and what is not ours stays."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.files import SUFFIX, atomic_file, atomic_folder, write_text
from c3po_adaptive.storage.folders import new_folder
from c3po_adaptive.storage.tensors import save_tensors

NAMES = ("claim", "part")


def left_over(folder):
    return list(folder.rglob(f"*{SUFFIX}"))


def put(folder, text, ours=lambda name: True):
    with atomic_folder(folder, NAMES, ours) as writing:
        for name in NAMES:
            (writing / name).write_text(text)


def held(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


class TestFiles:
    def test_takes_the_place_of_the_old_one(self, tmp_path):
        target = tmp_path / "new" / "target"
        for text in ("one", "two"):
            with atomic_file(target) as writing:
                writing.write_text(text)
                assert not target.exists() or target.read_text() == "one"
            assert target.read_text() == text
        assert left_over(tmp_path) == []

    def test_a_block_that_raises_leaves_the_old_one(self, tmp_path):
        target = tmp_path / "target"
        target.write_text("old")

        def interrupted():
            with atomic_file(target) as writing:
                writing.write_text("new")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert target.read_text() == "old"
        assert left_over(tmp_path) == []

    def test_all_may_read_what_the_umask_lets_them(self, tmp_path):
        """Tensors, too, and what others write into a folder of ours: safetensors lets nobody else read its files."""
        before = os.umask(0o027)
        try:
            write_text(tmp_path / "text", "text")
            save_tensors({"one": torch.ones(1)}, tmp_path / "tensors")
            with new_folder(tmp_path / "folder", "folder for a test") as writing:
                save_file({"one": torch.ones(1)}, writing / "tensors")
        finally:
            os.umask(before)
        files = [tmp_path / name for name in ("text", "tensors", "folder/tensors")]
        assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o640"] * 3

    def test_links_and_disks_without_modes_are_no_errors(self, tmp_path, monkeypatch):
        def refused(*_, **__):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "chmod", refused)
        with new_folder(tmp_path / "folder", "folder for a test") as writing:
            (writing / "link").symlink_to("nothing")
            save_tensors({"one": torch.ones(1)}, writing / "tensors")
        assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["link", "tensors"]

    def test_a_name_as_long_as_names_get(self, tmp_path):
        write_text(tmp_path / ("x" * 255), "long")
        assert (tmp_path / ("x" * 255)).read_text() == "long"

    @pytest.mark.parametrize("name", ["x" * 256, "a\0b", ".", "..", "", "\ud800"])
    def test_a_name_that_no_file_has(self, tmp_path, name):
        with pytest.raises(DataError, match="Expected to write"):
            write_text(f"{tmp_path}/{name}", "text")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("target", ["file", "nothing", "folder"])
    def test_a_link_stays(self, tmp_path, target):
        (tmp_path / "file").write_text("mine")
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(DataError, match="a link stands there"):
            write_text(tmp_path / "link", "text")
        assert os.readlink(tmp_path / "link") == target
        assert held(tmp_path) == {"file": "mine"}

    def test_a_file_does_not_take_the_place_of_a_folder(self, tmp_path):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "work.txt").write_text("of years")
        with pytest.raises(DataError, match=r"Expected to write .*docs"):
            write_text(tmp_path / "docs", "a page")
        assert held(tmp_path) == {"docs/work.txt": "of years"}
        assert left_over(tmp_path) == []

    def test_nor_of_a_device(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="no file stands there"):
            write_text(tmp_path / "pipe", "text")
        assert (tmp_path / "pipe").is_fifo()

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
    def test_its_mode_stays(self, tmp_path, mode):
        for path in (tmp_path / "page.md", tmp_path / "set" / "part"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("old")
            path.chmod(mode)
        write_text(tmp_path / "page.md", "new")
        put(tmp_path / "set", "new")
        for path in (tmp_path / "page.md", tmp_path / "set" / "part"):
            assert path.read_text() == "new"
            assert path.stat().st_mode & 0o777 == mode

    def test_what_is_read_only_stays(self, tmp_path):
        put(tmp_path / "set", "old")
        for path in (tmp_path / "page.md", tmp_path / "set" / "part"):
            path.write_text("old")
            path.chmod(0o444)
        with pytest.raises(DataError, match=r"page\.md, got: .*read-only; make it writable"):
            write_text(tmp_path / "page.md", "new")
        with pytest.raises(PermissionError, match="read-only"):
            put(tmp_path / "set", "new")
        assert held(tmp_path) == {"page.md": "old", "set/claim": "old", "set/part": "old"}
        assert left_over(tmp_path) == []

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"Expected to write .*page"):
            write_text(tmp_path / "file" / "page", "text")


class TestFolders:
    def test_a_new_one_appears_whole(self, tmp_path):
        with atomic_folder(tmp_path / "new" / "set", NAMES, lambda name: False) as writing:
            for name in NAMES:
                (writing / name).write_text("one")
            assert not (tmp_path / "new" / "set").exists()
        assert held(tmp_path) == {"new/set/claim": "one", "new/set/part": "one"}
        assert left_over(tmp_path) == []

    def test_in_one_that_is_there_all_else_stays(self, tmp_path):
        put(tmp_path / "set", "one")
        (tmp_path / "set" / "warm").mkdir()
        (tmp_path / "set" / "warm" / "states").write_text("kept")
        (tmp_path / "set" / "notes.txt").write_text("mine")
        put(tmp_path / "set", "two")
        beside = {"set/warm/states": "kept", "set/notes.txt": "mine"}
        assert held(tmp_path) == beside | {"set/claim": "two", "set/part": "two"}
        assert left_over(tmp_path) == []

    def test_files_of_others_stay(self, tmp_path):
        (tmp_path / "part").write_text("mine")
        with pytest.raises(DataError, match="without part of others, got"):
            put(tmp_path, "two", ours=lambda name: False)
        assert held(tmp_path) == {"part": "mine"}

    @pytest.mark.parametrize("name", NAMES)
    def test_a_link_or_a_folder_where_a_file_would_be(self, tmp_path, name):
        (tmp_path / "mine").write_text("mine")
        for make in (lambda path: path.symlink_to(tmp_path / "mine"), lambda path: path.mkdir()):
            folder = tmp_path / "set"
            folder.mkdir(exist_ok=True)
            make(folder / name)
            with pytest.raises(DataError, match=f"without {name} of others"):
                put(folder, "two")
            assert held(tmp_path) == {"mine": "mine"}
            (folder / name).unlink() if (folder / name).is_symlink() else (folder / name).rmdir()

    def test_a_link_to_a_folder_is_the_folder(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "set").symlink_to("disk")
        put(tmp_path / "set", "one")
        assert (tmp_path / "set").is_symlink()
        assert (tmp_path / "disk" / "part").read_text() == "one"

    def test_a_block_that_raises_leaves_the_old_one(self, tmp_path):
        put(tmp_path / "set", "old")

        def interrupted(folder):
            with atomic_folder(folder, NAMES, lambda name: True) as writing:
                (writing / "claim").write_text("new")
                raise KeyboardInterrupt

        for folder in ("set", "other"):
            with pytest.raises(KeyboardInterrupt):
                interrupted(tmp_path / folder)
        assert held(tmp_path) == {"set/claim": "old", "set/part": "old"}
        assert left_over(tmp_path) == []


class TestNewFolders:
    def test_they_appear_whole(self, tmp_path):
        with new_folder(tmp_path / "new" / "copy", "folder for the copy") as writing:
            (writing / "part").write_text("one")
            assert not (tmp_path / "new" / "copy").exists()
        assert held(tmp_path) == {"new/copy/part": "one"}
        assert left_over(tmp_path) == []

    @pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("No space left")])
    def test_a_full_disk_is_one_sentence_and_leaves_nothing(self, tmp_path, error):
        def half():
            with new_folder(tmp_path / "copy", "folder for the copy") as writing:
                (writing / "part").write_text("half")
                raise error

        with pytest.raises(DataError, match=r"a new folder for the copy, got: .*No space left.*free the disk"):
            half()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("what", ["file", "folder", "empty folder", "link"])
    @pytest.mark.parametrize("when", ["before", "meanwhile"])
    def test_what_is_there_stays(self, tmp_path, what, when):
        def come():
            if what == "file":
                (tmp_path / "copy").write_text("mine")
            elif what == "link":
                (tmp_path / "copy").symlink_to("nothing")
            else:
                (tmp_path / "copy").mkdir()
                if what == "folder":
                    (tmp_path / "copy" / "work").write_text("mine")

        def made():
            with new_folder(tmp_path / "copy", "folder for the copy") as writing:
                (writing / "part").write_text("new")
                if when == "meanwhile":
                    come()

        if when == "before":
            come()
        with pytest.raises(DataError, match=r"Expected a new folder for the copy, .*copy exists; name another"):
            made()
        assert [p.name for p in tmp_path.iterdir()] == ["copy"]
        assert "new" not in held(tmp_path).values()

    @pytest.mark.parametrize("name", ["..", ".", "", "/", "a\0b", "x" * 256, "\ud800", "file/below"])
    def test_a_path_that_no_folder_has(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(DataError), new_folder(name, "folder for the copy"):
            pytest.fail("nothing is written")
        assert held(tmp_path) == {"file": "mine"}

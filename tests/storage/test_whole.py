"""Files and folders are the old ones or the whole new ones."""

import pytest

from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.files import SUFFIX, whole, write_text


def left_over(folder):
    return list(folder.rglob(f"*{SUFFIX}"))


@pytest.mark.parametrize("kind", ["file", "folder"])
class TestWhole:
    def write(self, kind, path, text):
        if kind == "file":
            path.write_text(text)
        else:
            path.mkdir()
            (path / "part").write_text(text)

    def read(self, kind, path):
        return (path if kind == "file" else path / "part").read_text()

    def test_takes_the_place_of_the_old_one(self, kind, tmp_path):
        target = tmp_path / "new" / "target"
        for text in ("one", "two"):
            with whole(target) as writing:
                self.write(kind, writing, text)
                assert not target.exists() or self.read(kind, target) == "one"
            assert self.read(kind, target) == text
        assert left_over(tmp_path) == []

    def test_a_block_that_raises_leaves_the_old_one(self, kind, tmp_path):
        target = tmp_path / "target"
        self.write(kind, target, "old")

        def interrupted():
            with whole(target) as writing:
                self.write(kind, writing, "new")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert self.read(kind, target) == "old"
        assert left_over(tmp_path) == []


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "work.txt").write_text("of years")
    with pytest.raises(DataError, match=r"Expected to write .*docs"):
        write_text(tmp_path / "docs", "a page")
    assert (tmp_path / "docs" / "work.txt").read_text() == "of years"
    assert left_over(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"Expected to write .*page"):
        write_text(tmp_path / "file" / "page", "text")

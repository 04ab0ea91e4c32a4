"""What is saved, loaded and pushed as users of the Hugging Face Hub expect, with a card that says what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from ..elsewhere import loaded, where
from ..errors import ArtifactError, DataError, SettingError, disk_says
from .files import atomic_folder, is_folder, is_there, write_text
from .folders import writable_folder
from .text_checksum import is_unedited, with_checksum

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

README = "README.md"
REPOSITORY = r"[\w.-]+/[\w.-]+"
STORES = "c3po_adaptive.stores"
"""Entry points of what keeps folders that are not here (``_Store``): ``hub``, the Hugging Face Hub, which writes the
cards, too; any other is called by the beginning of its names, ``mine`` by ``mine://…``."""


class OnHub(ABC):
    """A folder of few files, here or in a repository of the Hub.

    Attributes:
        repo_type: of its repositories.
        files: what such a folder holds, beside the card, that which says whose they are first; nothing else is
            downloaded.
    """

    repo_type: ClassVar[Literal["model", "dataset"]]
    files: ClassVar[tuple[str, ...]]

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write the files into a folder, which is there."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path) -> Self:
        """Read the files of a folder, which others may have written."""

    @classmethod
    @abstractmethod
    def _owns(cls, folder: Path) -> bool:
        """Whether the ``files`` of a folder are those of such a thing, if perhaps a broken one."""

    @classmethod
    def _fetched(cls, folder: Path) -> Self:
        """The same as ``_read``, of a folder that belongs to the Hub's cache: nothing is to be stored beside it."""
        return cls._read(folder)

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Write it as a folder with a card (``README.md``).

        Args:
            folder: a new one, or one that is there: then its files take the place of old ones of their kind, each in
                one step, and whatever else lies there stays.
            license: as the Hub calls it (``cc-by-4.0``); which one is yours to say.

        Raises:
            DataError: the disk refuses it, or others' files lie where its own would; so does a card that a person
                altered.
        """
        return self._saved(folder, None, license)

    def _saved(self, folder: str | Path, name: str | None, license: str | None) -> Path:
        """With a card that loads it by a name; None: the folder's."""
        store = _store()

        def write(place: Path) -> None:
            self._write(place)
            card = store.card(self, name or Path(folder).resolve().name, license)
            write_text(place / README, with_checksum(card, type(self).__name__))

        card = Path(folder) / README
        if is_there(card) and self._owns(Path(folder)) and not self._owns_card(card):
            raise DataError(
                f"Expected the card of a {type(self).__name__} as it was written, got one that a person wrote or "
                f"altered at {card}; nothing was touched: move it away, save again, and bring its text over."
            )
        return self._placed(folder, (*self.files, README), write)

    @classmethod
    def _owns_card(cls, path: Path) -> bool:
        """Whether a card is of such a thing, and as it was written."""
        return is_unedited(path, cls.__name__)

    def _placed(self, folder: str | Path, names: tuple[str, ...], write: Callable[[Path], None]) -> Path:
        """Have the files of these names written, into a new folder or one that is there."""
        folder = writable_folder(folder, "choose a writable folder")

        def ours(name: str) -> bool:
            return self._owns_card(folder / README) if name == README else self._owns(folder)

        try:
            with atomic_folder(folder, names, ours) as writing:
                write(writing)
        except OSError as error:
            raise DataError(
                f"Could not write to {str(folder)!r}: {disk_says(error)}; choose a writable folder."
            ) from error
        except UnicodeEncodeError as error:
            raise DataError(
                f"Expected text that a file can hold, got half of a character ({error.reason}) among "
                f"{error.object!a:.99}; remove it."
            ) from error
        return folder

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, revision: str | None = None, token: str | bool | None = None
    ) -> Self:
        """Read a folder, or a repository of the Hub, which is cached.

        Args:
            name_or_path: a folder, or ``user/name``.
            revision: branch, tag or commit of a repository.
            token: of a private repository; None: that of ``hf auth login`` or ``$HF_TOKEN``.

        Raises:
            ArtifactError: there is no such repository, revision or file, it is closed to you, or cannot be reached.
            DataError: it holds something else, or is damaged.
            SettingError: a revision of a folder.
        """
        name = str(name_or_path)
        if is_folder(Path(name)):
            if revision is not None:
                raise SettingError(
                    f"Expected no revision of {name}, which is a folder, got {revision!r}; leave it out, or name a "
                    "repository that is no folder here."
                )
            return cls._read(Path(name))
        found = _store(name).fetch(name, cls.repo_type, cls.files, revision=revision, token=token)
        return cls._fetched(found)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        license: str | None = None,
    ) -> CommitInfo:
        """Write it to a repository of the Hub, which is made if it is not there, in one commit.

        The card is made anew, but one that a person wrote or altered stays, and a warning says so.

        Args:
            repo_id: ``user/name``.
            private: who may see a new repository; True is never taken for one that is public already.
            token: one that may write; None: that of ``hf auth login`` or ``$HF_TOKEN``.
            commit_message: of the commit.
            license: as the Hub calls it (``cc-by-4.0``); which one is yours to say.

        Returns:
            The commit: its ``oid`` is a revision to load, ``commit_url`` a page to look at.

        Raises:
            ArtifactError: no token, or one that may not write there; or the Hub cannot be reached.
        """
        made: CommitInfo = _store(repo_id).push(
            repo_id,
            self.repo_type,
            private=private,
            token=token,
            commit_message=commit_message or f"Upload {type(self).__name__}",
            write=lambda folder, name: self._saved(folder, name, license),
            replaces=self._owns_card,
        )
        return made


class _Store(Protocol):
    """Where folders are stored that are not here; ``plugins/hub`` is one."""

    def card(self, what: object, name: str, license: str | None) -> str:
        """The text of the card of a set or a pathway, with the snippet that loads it by ``name``."""

    def fetch(
        self, name: str, repo_type: str, files: Sequence[str], *, revision: str | None, token: str | bool | None
    ) -> Path:
        """The folder of a repository's files; nothing is to be written there."""

    def push(
        self,
        name: str,
        repo_type: str,
        *,
        private: bool | None,
        token: str | bool | None,
        commit_message: str,
        write: Callable[[Path, str], Path],
        replaces: Callable[[Path], bool],
    ) -> Any:
        """Write to a repository.

        Args:
            name: of it.
            repo_type: see ``OnHub``.
            private: see ``OnHub.push_to_hub``, as ``token`` and ``commit_message``.
            write: writes a folder, with a card that loads by a name.
            replaces: whether the card that a repository has, in a file, is as it was written.
        """


def _store(name: object = "") -> _Store:
    scheme, there, _ = str(name).partition("://")
    points = [*(entry_points(group=STORES, name=scheme) if there else ()), *entry_points(group=STORES, name="hub")]
    if not points:
        raise ArtifactError(f"Expected what writes cards, and speaks with the Hub, got none; {where('hub', 'store')}")
    store: _Store = loaded(points[0], f"the store {points[0].name!r}")
    return store

"""What is saved, loaded and pushed as users of the Hugging Face Hub expect, with a card that says what it is."""

from __future__ import annotations

import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from ..errors import ArtifactError, C3POError, DataError, SettingError, disk_says
from .files import atomic_folder, is_folder, is_there, write_text
from .folders import writable_folder
from .text_checksum import is_unedited, with_checksum

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

README = "README.md"
REPOSITORY = r"[\w.-]+/[\w.-]+"
TAG = "c3po_adaptive"
"""Of every card: by it one of ours is known."""


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

    @abstractmethod
    def _card(self, name: str, license: str | None) -> str:
        """The text of its card, with the snippet that loads it by ``name``."""

    @classmethod
    def _fetched(cls, folder: Path) -> Self:
        """The same as ``_read``, of a folder that belongs to the Hub's cache: nothing is to be kept beside it."""
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

        def write(place: Path) -> None:
            self._write(place)
            self._write_card(place, Path(folder).resolve().name, license)

        card = Path(folder) / README
        if is_there(card) and self._owns(Path(folder)) and not self._owns_card(card):
            raise DataError(
                f"Expected the card of a {type(self).__name__} as it was written, got one that a person wrote or "
                f"altered at {card}; nothing was touched: move it away, save again, and bring its text over."
            )
        return self._placed(folder, (*self.files, README), write)

    def _write_card(self, folder: Path, name: str, license: str | None) -> None:
        write_text(folder / README, with_checksum(self._card(name, license), type(self).__name__))

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
        """Read a folder, or a repository of the Hub, which is kept in its cache.

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
        return cls._fetched(_download(name, cls.repo_type, cls.files, revision, token))

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
        from huggingface_hub import HfApi, get_token

        if token is False or (not isinstance(token, str) and get_token() is None):
            raise ArtifactError(
                f"Expected a token that may write to {repo_id}, got none; run hf auth login, set HF_TOKEN, or pass "
                "token=…."
            )
        hub, kind = HfApi(token=token), self.repo_type
        message = commit_message or f"Upload {type(self).__name__}"
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "pushed", license=license)  # before a repository is made
            with _asking(repo_id, kind, None):
                named = hub.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
                if private and not hub.repo_info(named, repo_type=kind).private:
                    raise ArtifactError(
                        f"Expected {named} to be private, but there is a public repository of that name; nothing was "
                        "written. Make it private on its page, or name another."
                    )
            self._write_card(folder, named, license)
            with _asking(repo_id, kind, None):
                before = hub.repo_info(named, repo_type=kind).sha
                if not self._may_replace_card(hub, named, before):
                    (folder / README).unlink()
                return hub.upload_folder(
                    repo_id=named, folder_path=folder, repo_type=kind, commit_message=message, parent_commit=before
                )

    def _may_replace_card(self, hub: HfApi, name: str, commit: str | None) -> bool:
        """Whether a repository has no card, or one as it was written; a warning says how to replace another."""
        from huggingface_hub.errors import EntryNotFoundError

        with tempfile.TemporaryDirectory() as place, suppress(EntryNotFoundError):
            there = hub.hf_hub_download(name, README, repo_type=self.repo_type, revision=commit, local_dir=place)
            if not self._owns_card(Path(there)):
                warnings.warn(
                    f"The {README} of {name} stays as it is, since a person wrote or altered it; for a new one delete "
                    "it there and push again, or take that of save_pretrained.",
                    stacklevel=3,
                )
                return False
        return True


def _download(
    name: str, repo_type: str, files: tuple[str, ...], revision: str | None, token: str | bool | None
) -> Path:
    from huggingface_hub import snapshot_download

    with _asking(name, repo_type, revision):
        found = snapshot_download(name, repo_type=repo_type, revision=revision, token=token, allow_patterns=[*files])
    folder = Path(found)
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise ArtifactError(
            f"Expected the {repo_type} {name} on the Hub to hold {', '.join(files)}, got none of the name "
            f"{', '.join(missing)}; name another repository or revision."
        )
    return folder


_REMEDIES = {
    "GatedRepoError": "ask for access on its page, and log in with hf auth login",
    "RepositoryNotFoundError": "check the name; a private one needs a token (hf auth login, HF_TOKEN or token=…)",
    "RevisionNotFoundError": "name a branch, a tag or a commit that it has",
}
"""What to do about errors of the client, those of special kinds before the general ones."""


@contextmanager
def _asking(name: str, repo_type: str, revision: str | None) -> Iterator[None]:
    """What may go wrong with the Hub, in our words.

    Raises:
        ArtifactError: it went wrong.
        DataError: the name can be no repository's.
    """
    from huggingface_hub import errors

    # With the error of the client's HTTP library, which is another in each major version.
    silent = cast("tuple[type[Exception], ...]", (OSError, *errors.HfHubHTTPError.__bases__))
    if not isinstance(name, str):
        raise DataError(f"Expected a folder that is there, or a repository's name (user/name), got {name!r}.")
    try:
        yield
    except C3POError:
        raise
    except errors.HFValidationError as error:
        raise DataError(
            f"Expected a folder that is there, or a repository's name (user/name), got {name!r}: {error}"
        ) from error
    except silent as error:
        what = f"the {repo_type} {name}{f' in revision {revision!r}' if revision else ''}"
        then = next((_REMEDIES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REMEDIES), "")
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            then = then or f"use a token that may do this with {name}: make one at the Hub's settings"
        elif status is None:
            then = then or "connect, unset HF_HUB_OFFLINE, or name a folder"
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ArtifactError(
            f"Expected {what} on the Hub, got: {type(error).__name__}: {said}; {then or 'try again later'}."
        ) from error

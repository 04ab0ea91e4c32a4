"""What is saved, loaded and pushed as users of the Hugging Face Hub expect, with a card that says what it is."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from ..errors import ArtifactError, C3POError, DataError, SettingError
from .files import is_folder, whole_folder, write_text
from .sealed import sealed_pattern

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

README = "README.md"
REPOSITORY = r"[\w.-]+/[\w.-]+"
TAG = "c3po_adaptive"
"""Of every card: by it one of ours is known."""


class OnHub(ABC):
    """A folder of few files, here or in a repository of the Hub.

    Attributes:
        repo_type: of its repositories.
        files: what such a folder holds, beside the card, that which says whose they are first; sealed or not, nothing
            else is downloaded.
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
            DataError: the disk refuses it, the folder has no name of its own (``.``), or others' files lie where its
                own would.
        """

        def write(place: Path) -> None:
            self._write(place)
            write_text(place / README, self._card(Path(folder).name, license))

        return self._placed(folder, (*self.files, README), write)

    def _placed(self, folder: str | Path, names: tuple[str, ...], write: Callable[[Path], None]) -> Path:
        """Have the files of these names written, into a new folder or one that is there."""
        folder = Path(folder)

        def ours(name: str) -> bool:
            return _is_card(folder / README) if name == README else self._owns(folder)

        try:
            with whole_folder(folder, names, ours) as writing:
                write(writing)
        except OSError as error:
            raise DataError(f"Could not write to {str(folder)!r}: {error}; choose a writable folder.") from error
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
        """Write it to a repository of the Hub, which is made if it is not there, in one commit; the card is made anew.

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
            write_text(folder / README, self._card(named, license))
            with _asking(repo_id, kind, None):
                return hub.upload_folder(repo_id=named, folder_path=folder, repo_type=kind, commit_message=message)


def _is_card(path: Path) -> bool:
    """Whether a card has our tag among its metadata."""
    try:
        begin, metadata, *_ = path.read_text(encoding="utf-8").split("---\n", 2)
    except (OSError, ValueError):
        return False
    return not begin and f"\n- {TAG}\n" in metadata


def _download(
    name: str, repo_type: str, files: tuple[str, ...], revision: str | None, token: str | bool | None
) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*files, *map(sealed_pattern, files)]
    with _asking(name, repo_type, revision):
        found = snapshot_download(name, repo_type=repo_type, revision=revision, token=token, allow_patterns=patterns)
    folder = Path(found)
    missing = [file for file in files if not (folder / file).is_file() and not any(folder.glob(sealed_pattern(file)))]
    if missing:
        raise ArtifactError(
            f"Expected the {repo_type} {name} on the Hub to hold {', '.join(files)}, got none of the name "
            f"{', '.join(missing)}; name another repository or revision."
        )
    return folder


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
    except errors.GatedRepoError as error:
        what = f"access to the {repo_type} {name}, which is gated"
        then = "ask for it on its page, and log in with hf auth login"
        raise _refusal(what, then, error) from error
    except errors.RepositoryNotFoundError as error:
        what = f"a {repo_type} {name} on the Hub, or a folder of that name"
        then = "check the name; a private one needs a token (hf auth login, HF_TOKEN or token=…)"
        raise _refusal(what, then, error) from error
    except errors.RevisionNotFoundError as error:
        what = f"a revision {revision!r} of the {repo_type} {name}"
        raise _refusal(what, "name a branch, a tag or a commit that it has", error) from error
    except errors.HfHubHTTPError as error:
        closed = error.response is not None and error.response.status_code in (401, 403)
        what = f"a token that may do this with {name}" if closed else f"the Hub to answer for {name}"
        then = "make one at the Hub's settings, with the right to write" if closed else "try again later"
        raise _refusal(what, then, error) from error
    except silent as error:  # offline, or none answers
        what = f"to reach the Hub for the {repo_type} {name}"
        then = "connect, unset HF_HUB_OFFLINE, or name a folder"
        raise _refusal(what, then, error) from error


def _refusal(expected: str, then: str, error: Exception) -> ArtifactError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return ArtifactError(f"Expected {expected}, got: {type(error).__name__}: {said} {then[0].upper()}{then[1:]}.")

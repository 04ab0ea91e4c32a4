"""The Hub's own client: folders fetched from there and pushed to it, and what goes wrong on the way, in our words."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from huggingface_hub import CommitInfo, HfApi, errors, get_token, snapshot_download

from c3po_adaptive import ArtifactError, C3POError, DataError

README = "README.md"


def fetch(name: str, repo_type: str, files: Sequence[str], *, revision: str | None, token: str | bool | None) -> Path:
    """The folder of a repository's files, in the Hub's cache; see ``from_pretrained``, also for errors."""
    with _asking(name, repo_type, revision):
        found = snapshot_download(name, repo_type=repo_type, revision=revision, token=token, allow_patterns=[*files])
    folder = Path(found)
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise ArtifactError(
            f"Expected the {repo_type} {name} on the Hub to hold {', '.join(files)}, got none of the name "
            f"{', '.join(missing)}; name another repository or revision."
        )
    return folder


def push(
    name: str,
    repo_type: str,
    *,
    private: bool | None,
    token: str | bool | None,
    commit_message: str,
    write: Callable[[Path, str], Path],
    replaces: Callable[[Path], bool],
) -> CommitInfo:
    """Write to a repository, which is made if it is not there, in one commit; see ``push_to_hub``, also for errors.

    Args:
        name: ``user/name``.
        repo_type: of the repository.
        private: who may see a new one.
        token: one that may write.
        commit_message: of the commit.
        write: writes a folder, with a card that loads by a name.
        replaces: whether the card that is there, in a file, is as it was written; another stays, with a warning.
    """
    if token is False or (not isinstance(token, str) and get_token() is None):
        raise ArtifactError(
            f"Expected a token that may write to {name}, got none; run hf auth login, set HF_TOKEN, or pass token=…."
        )
    hub = HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = write(Path(place) / "pushed", name)  # before a repository is made
        with _asking(name, repo_type, None):
            named = hub.create_repo(name, repo_type=repo_type, private=private, exist_ok=True).repo_id
            if private and not hub.repo_info(named, repo_type=repo_type).private:
                raise ArtifactError(
                    f"Expected {named} to be private, but there is a public repository of that name; nothing was "
                    "written. Make it private on its page, or name another."
                )
        if named != name:
            write(folder, named)
        with _asking(name, repo_type, None):
            before = hub.repo_info(named, repo_type=repo_type).sha
            if not _may_replace_card(hub, named, repo_type, before, replaces):
                (folder / README).unlink()
            return hub.upload_folder(
                repo_id=named,
                folder_path=folder,
                repo_type=repo_type,
                commit_message=commit_message,
                parent_commit=before,
            )


def _may_replace_card(
    hub: HfApi, name: str, repo_type: str, commit: str | None, replaces: Callable[[Path], bool]
) -> bool:
    """Whether a repository has no card, or one as it was written; a warning says how to replace another."""
    with tempfile.TemporaryDirectory() as place, suppress(errors.EntryNotFoundError):
        there = hub.hf_hub_download(name, README, repo_type=repo_type, revision=commit, local_dir=place)
        if not replaces(Path(there)):
            warnings.warn(
                f"The {README} of {name} stays as it is, since a person wrote or altered it; for a new one delete "
                "it there and push again, or take that of save_pretrained.",
                stacklevel=4,
            )
            return False
    return True


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

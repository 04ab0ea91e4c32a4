"""What is asked of the ``datasets`` library, and what its failures mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c3po_adaptive import ArtifactError, DataError
from c3po_adaptive.tasks import DEMO_SPLITS

from .published import Row

TABLES = (".parquet", ".json", ".jsonl", ".csv", ".arrow")
"""Files that a folder of questions may hold, itself or one below it that is called like a split, or data."""
PARTS = ("data", "train", "dev", *DEMO_SPLITS)


def saved(folder: Path) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote it."""
    return any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))


def from_hub(path: str, config: str | None, split: str, revision: str | None) -> Iterable[Row]:
    """The rows of a split on the hub."""
    with _told(path, config, split) as library:
        rows: Iterable[Row] = library.load_dataset(path, config, split=split, revision=revision)
        return rows


def streamed(path: str, config: str | None, split: str) -> Iterator[Row]:
    """The rows of a split on the hub as they come, of which so many are fetched as are asked for."""
    with _told(path, config, split) as library:
        yield from library.load_dataset(path, config, split=split, streaming=True)


@contextmanager
def _told(path: str, config: str | None, split: str) -> Iterator[Any]:
    """The library, whose failures are errors of ours."""
    library = _library()
    try:
        yield library
    except (OSError, ValueError, LookupError, RuntimeError, library.exceptions.DatasetsError) as error:
        what = f"the split {split!r} of {path!r}" + (f" ({config})" if config else "")
        raise DataError(
            f"Expected {what} from the Hugging Face hub, but loading it failed: {error}; check the name and the "
            "network, or give a local JSONL file."
        ) from error


def splits_of(name: str, revision: str | None) -> list[str]:
    """The splits that a data set of the hub has."""
    library = _library()
    try:
        found: list[str] = library.get_dataset_split_names(name, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Expected the data set {name!r} on the Hugging Face hub, but asking for its splits failed: {error}; check "
            "the name and the network, name a split, or give a local JSONL file."
        ) from error
    return found


def from_folder(folder: Path) -> Mapping[str, Iterable[Row]]:
    """The splits of a local folder; one without a name is called ''."""
    library = _library()
    # Asked for any other folder, the library would look through all that is below it.
    inside = [folder, *(folder / name for name in PARTS)]
    kept = saved(folder)
    if not kept and (folder / "config.json").is_file():
        raise DataError(
            f"Expected questions, got {folder}, the folder of a model; a model stands first, or behind --model."
        )
    if not kept and not any(file.suffix in TABLES for part in inside if part.is_dir() for file in part.iterdir()):
        raise DataError(
            f"Expected a folder that the datasets library can read at {folder}, but it holds none of "
            f"{', '.join(TABLES)}; write it with Dataset.save_to_disk, or put Parquet or JSON files in it."
        )
    try:
        data = library.load_from_disk(str(folder)) if kept else library.load_dataset(str(folder))
    except (OSError, ValueError, LookupError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f"Expected a folder that the datasets library can read at {folder}, but it failed: {error}; "
            "write it with Dataset.save_to_disk, or put Parquet or JSON files in it."
        ) from error
    return data if isinstance(data, library.DatasetDict) else {str(data.split or ""): data}


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ArtifactError(
            "Expected the library datasets, for questions of a folder or the hub, but it is not installed; "
            "run pip install 'c3po_adaptive[datasets]', or give a JSONL file."
        ) from error
    return datasets

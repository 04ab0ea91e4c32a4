"""What is kept beside a reference set, held against the seals that it was written with."""

from __future__ import annotations

from ..errors import DataError
from ..storage.checksummed import checksummed_files, verify_checksum
from ..storage.kept import AGAIN
from .artifacts import ARTIFACTS
from .learned import LEARNED
from .reference_set import INDEX, WARM, ReferenceSet


def damaged_beside(references: ReferenceSet) -> list[str]:
    """What is wrong with each file that is kept beside a set, and would be refused when it is read."""
    shared, own = references.artifacts_folder, references.folder
    folders = [own / name for name in (LEARNED, INDEX, WARM)] if own is not None else []
    folders += [shared / ARTIFACTS] if shared is not None else []
    found = []
    for path in (path for folder in folders for path in checksummed_files(folder)):
        try:
            verify_checksum(path, AGAIN)
        except DataError as error:
            found.append(str(error))
    return found

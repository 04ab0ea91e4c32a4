"""A run folder on disk: claimed by one configuration, and what lies in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue, model_validator

from ..errors import DataError, disk_says
from .files import atomic_file, is_file, is_own, is_there
from .folders import refuse_home_and_projects, writable_folder
from .identity import digest
from .json_files import Json, Ours, Values, checked, read_json

RECORDS = "records.jsonl"
CONFIG = "config.json"
DRAWN = ("summary.json", "report.html")
FILES: dict[str, tuple[str, ...]] = {"comparison": (RECORDS, "records.parquet", *DRAWN)}
"""What runs of these kinds write beside their configuration, with every kind's ``Study.files`` once it is known; those
of any other write ``RECORDS`` and ``DRAWN``."""

COMMAND: ContextVar[str | None] = ContextVar("command", default=None)
"""The command line that is being carried out, which folders that it makes keep; None: they are made from Python."""

REPLACING: ContextVar[bool] = ContextVar("replacing", default=False)
"""Whether a run that is in a folder is deleted for the one that claims it."""


def command_line() -> str | None:
    """That which is being carried out, which files keep that it makes; None: they are made from Python."""
    return COMMAND.get()


def check_folder(folder: Path | str, config: Values, plugins: Mapping[str, str]) -> None:
    """Refuse a folder that cannot be written, holds another run, or is not ours, before anything is loaded for it.

    Args:
        folder: of the run; there or not.
        config: what is to be run, without ``inputs``, which are not known yet.
        plugins: hashes of plugin files by name, all that is known of ``inputs``.

    Raises:
        DataError: with what to do.
    """
    met = _met(writable_folder(folder), config)
    if met is not None and not REPLACING.get():
        known = {"inputs": _inputs(met.config) | {"plugins": {**plugins}}} if "inputs" in met.config else {}
        _check_same(folder, met.config, {**config, **known})


def is_run(folder: Path | str) -> bool:
    """Whether a folder is claimed by a run: its ``config.json`` is one of ours, with the hash of what it holds."""
    try:
        _checked_claim(Path(folder) / CONFIG)
    except DataError:
        return False
    return is_own(Path(folder) / CONFIG)


def files_of(config: Values) -> tuple[str, ...]:
    """Names of what a run of that configuration writes, beside it."""
    return FILES.get(str(config.get("kind", "comparison")), (RECORDS, *DRAWN))


def claim(folder: Path | str, config: Values, model: str | None = None) -> str:
    """Make the folder, or resume in it, for this configuration alone; the caller holds it. Where one run replaces
    another, what that wrote is deleted, its answers last and before the new claim is there: whenever it is interrupted,
    what lies there is of the run that the folder is claimed by.

    Args:
        folder: of the run.
        config: of the run, with what else identifies it.
        model: its name, for readers, beside the command; what is held to be the same is in ``config``.

    Returns:
        Hash of the configuration, as written to ``config.json``.

    Raises:
        DataError: the folder cannot be written, holds another run, or is not ours.
    """
    folder, wanted = writable_folder(folder), digest(config)
    met = _met(folder, config)
    new = {"hash": wanted, "made": {"model": model, "command": command_line()}, "config": config}
    text, old = json.dumps(new, indent=1, ensure_ascii=False) + "\n", []
    if met is not None and REPLACING.get():
        old = [folder / name for name in reversed(files_of(met.config))]
    elif met is not None:
        _check_same(folder, met.config, config)
        text = (folder / CONFIG).read_text(encoding="utf-8")
    try:
        with atomic_file(folder / CONFIG) as writing:  # to resume, too: a full disk is found out now
            writing.write_text(text, encoding="utf-8")
            for path in old:
                path.unlink(missing_ok=True)
    except (OSError, UnicodeEncodeError) as error:
        raise DataError(f"Expected to write to {folder}, got: {disk_says(error)}; name another --out.") from error
    return wanted


def _met(folder: Path, config: Values) -> _Claim | None:
    """The claim of a folder that a run may be written to; None: nobody has claimed it.

    Raises:
        DataError: something lies there that is not ours.
    """
    if not is_there(folder / CONFIG):
        refuse_home_and_projects(folder)
        if foreign := [name for name in files_of(config) if is_there(folder / name)]:
            raise DataError(
                f"Expected an empty folder or a run with its {CONFIG}, got {folder} with {', '.join(foreign)} alone; "
                "name another --out."
            )
        return None
    met = _checked_claim(folder / CONFIG)
    check_files(folder, {*files_of(met.config), *files_of(config)})
    foreign = [name for name in files_of(config) if name not in files_of(met.config) and is_there(folder / name)]
    if REPLACING.get() and foreign:
        raise DataError(
            f"Expected --overwrite to meet files of the run in {folder}, got {', '.join(foreign)}, which such a run "
            "does not write; nothing was touched: move them away, or name another --out."
        )
    return met


def check_files(folder: Path, files: Iterable[str]) -> None:
    """Refuse what is no file where those of a run lie: a folder is not ours, nor what a link leads to.

    Raises:
        DataError: naming it.
    """
    others = [name for name in sorted({CONFIG, *files}) if is_there(folder / name) and not is_own(folder / name)]
    if others:
        raise DataError(
            f"Expected files of a run in {folder}, got links or folders ({', '.join(others)}), which are neither "
            "followed nor touched; move them away, or name another --out."
        )


def _check_same(folder: Path | str, old: Values, new: Values) -> None:
    """Refuse a folder of another configuration, with the keys that differ."""
    before, now = _flat(old), _flat(json.loads(json.dumps(new)))
    if differing := sorted(_where(k, before.get(k), now.get(k)) for k in before | now if before.get(k) != now.get(k)):
        raise DataError(
            f"Expected {folder} to hold the run {digest(new)[:12]}, got {digest(old)[:12]} (they differ in "
            f"{', '.join(differing)}); name another --out, delete that run by --overwrite, or give its own settings "
            "and plugins to resume it."
        )


def _where(key: str, before: Json, now: Json) -> str:
    """A key, with the arms of it that differ: some are a configuration's, others were added as controls of these; or
    with the plugins, and how."""
    if key not in ("arms", "inputs.plugins") or not (isinstance(before, dict) and isinstance(now, dict)):
        return key
    names = sorted(name for name in before | now if before.get(name) != now.get(name))
    if key == "inputs.plugins":
        names = [f"{name} {_how(name in before, name in now)}" for name in names]
    return f"{key}: {'; '.join(names)}"


def _how(before: bool, now: bool) -> str:
    """In which way a plugin is another than when a run began."""
    if before and now:
        return "has another text than when it began"
    return "was there when it began, and is not now" if before else "was not there when it began, and is now"


def claimed_config(folder: Path | str) -> dict[str, Any]:
    """The configuration that a run folder is claimed by.

    Raises:
        DataError: it is no run folder, or its ``config.json`` is broken.
    """
    path = Path(folder) / CONFIG
    if not is_file(path):
        raise DataError(f"Expected a run folder (with {CONFIG}), got {folder}; give the folder that a run wrote.")
    return _claim_in(path).config


def made_by(folder: Path | str) -> dict[str, str | None] | None:
    """``model`` and ``command`` that a run folder was made with; None: no run folder.

    Raises:
        DataError: its ``config.json`` is broken.
    """
    path = Path(folder) / CONFIG
    return _claim_in(path).made if is_file(path) else None


class _Claim(Ours):
    """a run's hash and configuration"""

    hash: str
    made: dict[str, str | None] | None = None
    config: dict[str, JsonValue]

    @model_validator(mode="after")
    def _with_inputs(self) -> Self:
        if not isinstance(self.config.get("inputs", {}), dict):
            raise ValueError("its inputs are no object")
        return self


def _claim_in(path: Path, remedy: str = "put it back as it was, or give another run's folder") -> _Claim:
    return checked(_Claim, read_json(path, remedy), str(path), remedy)


def _checked_claim(path: Path) -> _Claim:
    """The same, with the hash of what it holds."""
    found = _claim_in(path, "name another --out")
    if found.hash != digest(found.config):
        raise DataError(
            f"Expected {path} of a run as it was written, got one with the hash {found.hash[:12]!r} of something else "
            f"({digest(found.config)[:12]}); name another --out."
        )
    return found


def _flat(config: Values) -> dict[str, Json]:
    """With the parts of ``inputs`` one by one, so that a message can name them."""
    return {k: v for k, v in config.items() if k != "inputs"} | {f"inputs.{k}": v for k, v in _inputs(config).items()}


def _inputs(config: Values) -> dict[str, Json]:
    """What a run read, beside its settings."""
    inputs = config.get("inputs", {})
    return inputs if isinstance(inputs, dict) else {}

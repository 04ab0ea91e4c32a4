"""Options that commands share, one by one and in groups: a model, an engine, a run."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ..errors import PluginError, SettingError
from ..progress import Progress, bar, limited, working
from ..storage.files import is_file, is_folder
from .terminal import PAUSED

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..registry import Registry
    from ..rules.base import NamedRule
    from ..study.executor import Executor


def named(path: str | Path) -> Path:
    """A path as options give it; an empty one, which an unset variable leaves, would be the current folder."""
    if not str(path):
        raise typer.BadParameter("expected a path, got an empty one; name one, or . for the current folder.")
    return Path(path)


def folder_name(source: str) -> str:
    """A name for a run's folder by a model or questions: of a file without its ending, of a folder, or the source's."""
    path = Path(source)
    name = path.stem if is_file(path) else Path(os.path.abspath(path)).name if is_folder(path) else source
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _model(name: str) -> str:
    """A model's name, not that of questions."""
    if name.partition(":")[0] == "demo" or is_file(name):
        raise typer.BadParameter(f"expected a model's name or folder, got questions, {name}; name a model first.")
    return name


MODEL = "smollm2-moe, OLMoE, DeepSeekMoE, a Hub id, or a folder."
PATH: dict[str, Any] = {"parser": named, "metavar": "PATH"}
"""How options take a path to write to."""

Out = Annotated[Path, typer.Option("--out", **PATH, help="Folder of the run; an interrupted run there is resumed.")]
Named = Annotated[str, typer.Argument(callback=_model, help=MODEL)]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Quantize = Annotated[str | None, typer.Option(help="4bit or 8bit: linear layers, by bitsandbytes.")]
Format = Annotated[str, typer.Option(help="cloze or letter.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value, +key.NEW=value or @FILE, over the file; repeatable."),
]


def _minutes(text: str) -> float:
    minutes = float(text)
    if not minutes >= 0:  # NaN neither
        raise typer.BadParameter(f"expected minutes from 0 on, got {text}.")
    return minutes


Minutes = Annotated[
    float | None,
    typer.Option(
        parser=_minutes,
        metavar="FLOAT",
        help=f"Stop after so many, with status {PAUSED}; again, it resumes.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="When this run begins, delete the files of the run in --out, and no others; asks on a terminal.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
Picture = Annotated[
    Path | None, typer.Option("--picture", **PATH, help="Also draw it, as this SVG or PNG file.", show_default=False)
]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A plugin file; repeatable.")]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help="At every token: ban:3,5@16-20, force:2@last-5, top-k:1, bias:3=+2.5, temperature:0.5; repeatable.",
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--questions", help="Where the questions' texts are: a file, a folder, …; repeatable."),
]


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded."""

    revision: Revision = None
    dtype: Dtype = "auto"
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: spread over all, disk included.")
    ] = None
    quantize: Quantize = None

    def load(self, name: str) -> RoutedModel:
        """As ``load_moe_model``; shows that it does."""
        from ..models.loading import load_moe_model

        with working(f"loading {name}"):
            return load_moe_model(
                name, dtype=self.dtype, device=self.device, quantize=self.quantize, revision=self.revision
            )


@dataclass(frozen=True)
class NamedModel:
    """Which model, of a command that has no usual one: by ``--model``, or as the first word, as it once was alone."""

    model: Annotated[str | None, typer.Option("--model", help=f"Required: {MODEL}")] = None
    first: Annotated[str | None, typer.Argument(metavar="--model NAME", hidden=True)] = None

    def then(self, second: str | None = None, *, most: int = 0) -> tuple[str, str | None]:
        """The model's name, and the word that follows it, of at most so many; ``second``: what stands behind ``first``.

        Raises:
            typer.BadParameter: no model, questions in its place, or a word too many.
        """
        words = [word for word in (self.first, second) if word is not None]
        name = words.pop(0) if self.model is None and words else self.model
        if name is None:
            raise typer.BadParameter("expected a model, got none; add --model NAME.")
        if len(words) > most:
            raise typer.BadParameter(f"expected nothing more, got {words[-1]!r}; leave it out.")
        return _model(name), next(iter(words), None)


@dataclass(frozen=True)
class ModelOptions(LoadOptions):
    """Which model, and how it is loaded."""

    model: Annotated[str, typer.Option("--model", help=MODEL)] = "smollm2-moe"

    def loaded(self) -> RoutedModel:
        """The model."""
        return self.load(self.model)

    @property
    def values(self) -> dict[str, str | None]:
        """By name, as configurations have them."""
        return asdict(self)


@dataclass(frozen=True)
class EngineOptions:
    """Where pieces of work are computed."""

    engine: Annotated[
        str, typer.Option(help="Where it is computed: local, here; ray, on a Ray cluster; or what a plugin brings.")
    ] = "local"
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else one is started here.")
    ] = None
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray, at most; else one a CPU core, or a GPU where that is the device.")
    ] = None

    def executor(self, registry: Registry | None = None) -> Executor:
        """What computes them.

        Args:
            registry: knows what plugins bring; None: those of installed packages.

        Raises:
            UnknownNameError: no plugin brings the engine.
            PluginError: what it brings is no executor.
            SettingError: an address or a number of workers, and the local engine.
        """
        from ..study.executor import HERE, Executor

        if self.engine == "local":
            if self.address is not None or self.workers is not None:
                raise SettingError("Expected --engine ray beside --address or --workers, got the local engine; add it.")
            return HERE
        from ..registry import unknown

        brought = registry or registry_with(None)
        if self.engine not in (known := brought.others("engine")):
            raise unknown("engine", self.engine, ["local", *known], "install the plugin that brings it.")
        made = brought.other("engine", self.engine)(self.address, self.workers)
        if not isinstance(made, Executor):
            raise PluginError(
                f"Expected the engine {self.engine!r} to be an executor, with a method map, got {made!r}; correct the "
                "plugin that brings it."
            )
        return made


@dataclass(frozen=True)
class RunOptions:
    """How a study is run."""

    set: SetOption = None
    plugin: Plugins = None
    minutes: Minutes = None
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Run plugins that break their contract, too.")] = False
    overwrite: Overwrite = False
    wide: Annotated[bool, typer.Option("--wide", help="All columns of the table.")] = False
    as_json: AsJson = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: with the fields of its parameters' dataclasses in these parameters' place."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        parts = [parameter.replace(annotation=hints[parameter.name])] if group is None else _parameters(group)
        parameters += [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in parts]

    @wraps(command)
    def called(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    vars(called).pop("__wrapped__")
    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {part.name: part.annotation for part in parameters}
    return called


def _parameters(group: type) -> Iterable[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])


def registry_with(files: Iterable[Path] | None, *, installed: bool = True) -> Registry:
    """Built-ins, plugins of installed packages, and those of files."""
    from ..registry import new_registry

    registry = new_registry(installed=installed)
    for file in files or ():
        registry.load_file(file)
    return registry


def rule_of(texts: Sequence[str] | None, registry: Registry) -> NamedRule | None:
    """What ``--rule`` names, one after another; None: nothing.

    Raises:
        UnknownNameError: there is no rule of that name.
        SettingError: a text that is no rule, or a parameter that is refused.
    """
    from ..registry import rule_named

    return rule_named(list(texts), registry) if texts else None


def progress_for(minutes: float | None) -> Progress:
    """A bar, and an end after so many minutes."""
    return bar if minutes is None else limited(bar, minutes)

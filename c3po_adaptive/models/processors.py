"""What makes images ready for a model: its checkpoint's own processor, without what reads video and sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers import (
    CONFIG_MAPPING,
    PROCESSOR_MAPPING,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    ProcessorMixin,
)

from ..storage.files import is_file, is_folder
from .family_table import no_images

FILES = ("processor_config.json", "preprocessor_config.json")


def processor_of(source: str, config: PreTrainedConfig, **options: Any) -> tuple[Any, str]:
    """The processor of a checkpoint, or None and the reason. A model reads texts without one.

    That of a family which reads video, too, asks for torchvision: where that is not installed, images are read without.
    """
    if type(config) not in AutoModelForImageTextToText._model_mapping:
        return None, "it is a model of text alone"
    if reason := no_images(config.model_type):
        return None, reason
    folder = Path(source)
    if is_folder(folder) and not any(is_file(folder / name) for name in FILES):
        return None, f"there is no {FILES[0]} in {source}"
    try:
        found = AutoProcessor.from_pretrained(source, **options)
    except Exception:  # of another kind for each package that is missing
        found = None
    if hasattr(found, "image_processor"):
        return found, ""
    try:
        return of_images(type(config)).from_pretrained(source, **options), ""
    except Exception as error:  # as above
        return None, f"its processor cannot be read: {str(error).strip() or type(error).__name__}"


class _OfImages(ProcessorMixin):
    """Behind a processor of transformers, in the order of its bases: leaves out its parts for video and sound."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        there = {name: part for name, part in named.items() if part is not None}
        super().__init__(*filter(None, parts), **there)  # type: ignore[no-untyped-call]

    @classmethod
    def get_attributes(cls) -> list[str]:
        every: list[str] = super().get_attributes()  # type: ignore[no-untyped-call]
        return [name for name in every if "video" not in name and "feature" not in name]

    @classmethod
    def _get_arguments_from_pretrained(cls, *args: Any, **options: Any) -> list[Any]:
        """Asked by transformers up to 5.24; later ones ask for the attributes alone."""
        found = cast(Any, super())._get_arguments_from_pretrained(*args, **options)
        there = dict(zip(cls.get_attributes(), found, strict=True))
        return [there.get(name) for name in super().get_attributes()]  # type: ignore[no-untyped-call]


def of_images(config: type[PreTrainedConfig]) -> Any:
    """The class of a family's processor without its parts for video and sound; a thinker's is that of the whole."""
    whole = CONFIG_MAPPING[config.model_type.removesuffix("_thinker")]
    processor: Any = PROCESSOR_MAPPING[whole]
    return type(processor.__name__, (processor, _OfImages), {})

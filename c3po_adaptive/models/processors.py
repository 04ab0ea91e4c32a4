"""What makes images ready for a model: its checkpoint's own processor, without what reads video and sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PROCESSOR_MAPPING, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

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
        known: Any = PROCESSOR_MAPPING[type(config)]
        return of_images(known).from_pretrained(source, **options), ""
    except Exception as error:  # as above
        return None, f"its processor cannot be read: {str(error).strip() or type(error).__name__}"


def of_images(processor: type) -> Any:
    """The class of a processor without its parts for video and sound."""

    def parts(cls: type) -> list[str]:
        named: list[str] = processor.get_attributes()  # type: ignore[attr-defined]
        return [name for name in named if "video" not in name and "feature" not in name]

    return type(processor.__name__, (processor,), {"get_attributes": classmethod(parts)})

"""Cards for the Hub: metadata in YAML, then Markdown from a template.

Values from elsewhere stand inside Markdown on one line, and are shown as they are, whatever it or HTML would make of
them: what does no harm stands as it is; any other sign is an entity, which no reader takes for one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .hub import TAG
from .pathway_file import Origin

if TYPE_CHECKING:
    from huggingface_hub import CardData

TAGS = ["c3po", TAG, "mixture-of-experts"]
_BREAKS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_SIGNS = re.compile(rf"[`*\[\]|<>&\\#~{_BREAKS}]|(?<![^\W_])_|_(?![^\W_])")  # inside a word _ is a letter
_ENDS_CODE = re.compile(rf"[`|<>\\{_BREAKS}]|^ | $|^$")
_ANY = re.compile(r"[^\w ]|_")


def cell(value: object) -> str:
    """A value as text, in a table, too."""
    return _SIGNS.sub(_entity, str(value))


def code(value: object) -> str:
    """A value as code, in a table, too: between backticks, or where it has what would end that, in HTML."""
    text = str(value)
    return f"<code>{_ANY.sub(_entity, text)}</code>" if _ENDS_CODE.search(text) else f"`{text}`"


def _entity(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


def rendered(data: CardData, template: Path, **values: Any) -> str:
    """A card's text. Values may come from files of others: those of a table or a line go through ``cell``."""
    from huggingface_hub import RepoCard

    return str(RepoCard.from_template(data, template_path=str(template), **values))


def load_snippet(name: str, dtype: str | None, revision: str | None) -> str:
    """The call that loads a model again, as Python."""
    given = {key: value for key, value in (("dtype", dtype), ("revision", revision)) if value is not None}
    return f"load_moe_model({', '.join([repr(name), *(f'{key}={value!r}' for key, value in given.items())])})"


def pathway_card(
    origin: Origin,
    *,
    shape: Sequence[int],
    layers: Sequence[int],
    changed: Sequence[int],
    acts: str,
    name: str,
    license: str | None,
) -> str:
    """The card of a pathway's repository.

    Args:
        origin: whose it is.
        shape: of its weights.
        layers: decoder layers of its rows.
        changed: those whose weights are not the model's own.
        acts: its scope, and top-k if there is one.
        name: of the repository or folder.
        license: as the Hub calls it; None leaves it out.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=origin.base_model,
        license=license,
        library_name="c3po_adaptive",
        tags=[*TAGS, "pathway"],
    )
    texts = origin.texts or ("…",)
    return rendered(
        data,
        Path(__file__).with_name("pathway_card.md.j2"),
        model=code(origin.name),
        identity=code(origin.model),
        dtype=code(origin.dtype),
        prompts=[code(prompt) for prompt in origin.prompts],
        texts=[cell(text) for text in origin.texts or ()],
        shape=list(shape),
        rows=", ".join(map(str, layers)),
        changed=", ".join(map(str, changed)) or "none",
        acts=cell(acts),
        versions=", ".join(f"{cell(package)} {cell(number)}" for package, number in origin.versions.items()),
        load=load_snippet(origin.name, origin.dtype, origin.revision),
        repository=repr(name),
        text=repr(texts[0] if len(shape) == 2 else list(texts)),
    )

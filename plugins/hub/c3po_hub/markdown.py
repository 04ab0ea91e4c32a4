"""Values from elsewhere inside Markdown: they stand on one line, and are shown as they are, whatever it or HTML would
make of them: what does no harm stands as it is; any other sign is an entity, which no reader takes for one of its own.
"""

from __future__ import annotations

import re

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

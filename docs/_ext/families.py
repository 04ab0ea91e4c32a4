"""``{families}`` and ``{aliases}``: models that work, from the table that the tests wrote."""

from __future__ import annotations

from sphinx.application import Sphinx
from written import Written, table

from c3po_adaptive.models import family_table as families
from c3po_adaptive.models.loading import ALIASES


class Families(Written):
    """What works for each family."""

    def text(self) -> str:
        """By the layout of tails, and what is left."""
        rows = families.families()
        whole = {name for name, row in rows.items() if all(row.get(a) is True for a in families.ABILITIES)}
        table = families.table()
        tested = ", ".join(f"{release} ({work})" for release, work in table["releases"].items())
        parts = [
            f"Tested releases of transformers, and how many families work: {tested}. With {table['transformers']}:\n"
        ]
        for layout in sorted({str(rows[name]["layout"]) for name in whole}):
            names = sorted(name for name in whole if rows[name]["layout"] == layout)
            parts += [f"- everything, tails as *{layout}*: {', '.join(f'`{name}`' for name in names)}"]
        parts += [f"- `{name}`: {families.reason(rows[name])}" for name in sorted(rows.keys() - whole)]
        shown = families.image_families()
        able = [name for name in shown if not families.no_images(name)]
        parts += [f"- [images](../howto/images.md), too: {', '.join(f'`{name}`' for name in able)}"]
        others = [f"`{name}` ({families.no_images(name)})" for name in shown if name not in able]
        parts += [f"- no images, though transformers' models of these families read them: {', '.join(others)}"]
        return "\n".join(parts)


class Aliases(Written):
    """Names that stand for ids of the Hub."""

    def text(self) -> str:
        """As a table."""
        return table(("name", "Hub id"), [[f"`{name}`", f"`{hub}`"] for name, hub in ALIASES.items()])


def setup(app: Sphinx) -> dict[str, bool]:
    """Found by Sphinx."""
    app.add_directive("families", Families)
    app.add_directive("aliases", Aliases)
    return {"parallel_read_safe": True}

"""Pages that stand alone: templates that extend ``base.html.j2``, which holds their style and what tables can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DataError
from ..storage.json_files import Ours, checked, read_json

if TYPE_CHECKING:
    from jinja2 import Environment

S = TypeVar("S", bound=Ours)


def finished_summary(folder: Path | str, kind: type[S], what: str) -> S:
    """The summary of a run that came to its end.

    Args:
        folder: of the run.
        kind: of the summary.
        what: was run: a study, or an audit.

    Raises:
        DataError: there is none: it was interrupted.
    """
    path, again = Path(folder) / "summary.json", f"run the {what} again"
    if not path.is_file():
        raise DataError(
            f"Expected {'an' if what[0] in 'aeiou' else 'a'} {what} that was run to the end, got {folder} without "
            f"{path.name}; {again}."
        )
    return checked(kind, read_json(path, again), str(path), again)


def draw(
    package: str, template: str, *, made: Mapping[str, str | None] | None, model: Any = None, **values: Any
) -> str:
    """A page as HTML.

    Args:
        package: where the template is.
        template: its name.
        made: ``model`` and ``command`` that stand at the top, as ``storage.run_folder.made_by`` gives them.
        model: its name where ``made`` has none.
        values: what else it asks for.
    """
    page: str = (
        _environment(package)
        .get_template(template)
        .render(made=made, model=(made or {}).get("model") or model, **values)
    )
    return page


@cache
def _environment(package: str) -> Environment:
    """Kept, as a template takes longer to compile than a page to write."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(__package__, ".")]),
        autoescape=True,
        undefined=StrictUndefined,  # a missing variable must not leave a hole in a page unseen
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters["signed"] = lambda x, digits=1: f"{x:+.{digits}f}".replace("-", "−")
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)
    environment.filters["p"] = lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"
    environment.filters["csv"] = _csv
    environment.filters["zip"] = zip
    return environment


def _csv(values: Any) -> str:
    """What a cell is in its table's CSV file: as many fields as its column's names."""
    return ",".join("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values)

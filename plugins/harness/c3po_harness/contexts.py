"""Requests gathered: which continuations stand behind one context, and what its neighbours are found by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from c3po_adaptive import DataError, Prompt

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

Ids = tuple[int, ...]


class Context(str):
    """A context that knows which document it is of, and the text that neighbours are found by; "": there is none."""

    doc: tuple[Any, ...]
    query: str


def with_contexts(requests: Sequence[Instance], query: str | None) -> list[Instance]:
    """Requests whose contexts know what they are of.

    Args:
        requests: with a context as their first argument.
        query: the document's field that is the question. None: what follows the context's last blank line, where
            their solved examples end; an embedder would read these alone, for it cuts long texts at the end.

    Raises:
        DataError: a document has no such field, or no text in it.
    """
    return [replace(r, arguments=(_context(r, query), *r.args[1:])) for r in requests]


def _context(request: Instance, query: str | None) -> Context:
    made = Context(request.args[0])
    made.doc = (request.task_name, request.doc_id)
    if query is None or not made.strip():
        made.query = made.rstrip().rpartition("\n\n")[2]
    else:
        made.query = _field(request, query)
    return made


def _field(request: Instance, name: str) -> str:
    found = request.doc.get(name)
    if not isinstance(found, str) or not found.strip():
        texts = ", ".join(key for key, value in request.doc.items() if isinstance(value, str))
        raise DataError(
            f"Task {request.task_name}, document {request.doc_id}: expected a text in the field {name!r}, got "
            f"{found!r}; name one of {texts or 'its fields (none is a text)'}, or leave query out."
        )
    return found


@dataclass(eq=False)
class Gathered:
    """One prompt with every continuation that is to be scored behind it.

    Attributes:
        query: the text that neighbours are found by; "": there is none.
        ids: the prompt's tokens.
        options: the continuations, each once.
    """

    query: str
    ids: Ids
    options: dict[Ids, None] = field(default_factory=dict)

    @property
    def prompt(self) -> Prompt:
        """Its continuations count as a whole, whatever their length."""
        return Prompt(self.ids, tuple(self.options), (1.0,) * len(self.options))

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.ids) + max(map(len, self.options))


def gathered(requests: Sequence[tuple[str | None, Ids, Ids]]) -> list[tuple[Gathered, Ids]]:
    """For each request the prompt that it is scored behind, and its continuation.

    Args:
        requests: text of the context (a ``Context``, or else nothing is shared), its tokens, the continuation's.
    """
    found: dict[Any, Gathered] = {}
    placed = []
    for number, (context, ids, option) in enumerate(requests):
        of = (context.doc, context.query) if isinstance(context, Context) else (number, "")
        one = found.setdefault((of, ids), Gathered(of[1], ids))
        one.options[option] = None
        placed.append((one, option))
    return placed

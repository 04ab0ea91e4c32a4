"""What a data set was asked with: references of other data sets, as in C3PO, or of its own, which is another task; and
how its questions were put."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath

from pydantic import BaseModel, ConfigDict, JsonValue

from ..storage.json_files import Values
from ..tasks.sources import brought, own_set

SAME = "same set"
_Format = str | dict[str, JsonValue]


class _Dataset(BaseModel):
    """What a configuration says of a data set; what is not told here is kept as it is."""

    model_config = ConfigDict(extra="allow")

    name: str
    questions: str = ""
    references: tuple[str, ...] = ()
    format: _Format | None = None
    score: str = "likelihood"
    split: str | None = None
    share: tuple[float, float] | None = None


class _Config(BaseModel):
    """A comparison's, as far as it is told here."""

    datasets: tuple[_Dataset, ...] = ()
    format: _Format = "cloze"


class DatasetsInWords:
    """What a comparison's configuration says of its data sets.

    Args:
        config: plain values.
    """

    def __init__(self, config: Values) -> None:
        self._said = _Config.model_validate(config)
        self._of = {one.name: one for one in self._said.datasets}

    def references(self, dataset: str) -> str:
        """Names of the sources that a data set's references come from, such as ``openbookqa + sciq``.

        One that is the questions' own says so: ``arc_easy (same set)``. Of "all", the mean over data sets, it is said
        which of the two there are: ``same set``, ``other sets``, or both.
        """
        if dataset in self._of:
            return " + ".join(_named(self._of[dataset])) or "none"
        kinds = {SAME if SAME in name else "other sets" for one in self._of.values() for name in _named(one)}
        return " and ".join(sorted(kinds)) or "none"

    def benchmark(self, dataset: str) -> str:
        """The name of the source that a data set's questions come from; "" of "all"."""
        return _set(self._of[dataset].questions) if dataset in self._of else ""

    def format(self, dataset: str) -> str:
        """How a data set's questions were put, in words; of "all", how those of each were, or ``several``."""
        put = {name: _asked(one, self._said.format) for name, one in self._of.items()}
        if dataset in put:
            return put[dataset]
        again = self.again(put)
        each = {words for name, words in put.items() if name not in again} or {_in_words(self._said.format)}
        return each.pop() if len(each) == 1 else "several"

    def scored_twice(self) -> list[tuple[str, str]]:
        """Names of data sets that ask the same questions, with the same references and put alike, by likelihood and by
        what is generated."""
        asked: dict[str, dict[str, str]] = {}
        for one in self._said.datasets:
            rest = one.model_dump(mode="json", exclude={"name", "score"})
            asked.setdefault(json.dumps(rest, sort_keys=True), {})[one.score] = one.name
        return [(both["likelihood"], both["generated"]) for both in asked.values() if len(both) > 1]

    def again(self, names: Collection[str]) -> set[str]:
        """Which of these data sets ask the questions of an earlier one again, in another way: a mean over data sets is
        without them, so that a question counts once."""
        first: dict[object, str] = {}
        there = [one for one in self._said.datasets if one.name in names and one.questions]
        there.sort(key=lambda one: one.score == "generated")
        asked = [(one.name, first.setdefault((one.questions, one.split, one.share), one.name)) for one in there]
        return {name for name, before in asked if name != before}


def _asked(one: _Dataset, usual: _Format) -> str:
    return _in_words(one.format or usual) + ("" if one.score == "likelihood" else f", {one.score}")


def _in_words(format: _Format) -> str:
    given: Mapping[str, JsonValue] = {"name": format} if isinstance(format, str) else format
    scored = given.get("normalize", "tokens")
    name = "letters" if given["name"] == "letter" else f"cloze by {'sum' if scored == 'none' else scored}"
    name += ", in a chat" if given.get("chat") else ""
    token = given.get("token", "last")
    return name if token == "last" else f"{name}, ω at the {token} token"


def _named(dataset: _Dataset) -> Sequence[str]:
    own = _set(dataset.questions)
    names = dict.fromkeys(map(_set, dataset.references))
    return [f"{name} ({SAME})" if name == own else name for name in names]


def _set(source: str) -> str:
    """A source's name without its split, and of a file or a folder without where it is; of a package's its own,
    of a set that is a package's own ``PREFIX:NAME``."""
    if own := own_set(source):
        return own
    _, source = brought(source)
    name, colon, split = source.rpartition(":")
    path = PurePath(name if colon and split.isidentifier() else source)
    return path.name.partition(".")[0] if path.suffix in (".json", ".jsonl") else path.name or source

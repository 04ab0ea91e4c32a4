"""What was left after two rounds (``../protocol.md``): ``python -m answer.left`` (in ``studies``) compares the answers
in ``results/{draw,seed,told,beside,paper}`` and writes ``summary.json`` beside them.
"""

import json
from collections.abc import Iterable, Mapping

from answer.compare import MIXTURE, PRIMARY, RESULTS, Kept, compared, hashes, kept, parts, rows

from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

BESIDE = ("knn labels", "in context", "calibrated", "lora")
PAIRS = {
    "draw": (*PRIMARY, ("each", "base")),
    "seed": (*PRIMARY, ("each", "base")),
    "told": (("one for its kind", "base"), ("each in its kind", "one for its kind"), ("each", "one for its kind")),
    "beside": (
        *((arm, than) for than in ("base", "each") for arm in BESIDE),
        ("each", "base"),
        ("in context", "in context, random"),
    ),
    "paper": (
        *((arm, "base") for arm in ("ngd", "kernel-regression", "mode-finding", "ngd, oracle")),
        ("ngd", "ngd, random neighbours"),
        ("ngd", "ngd, shuffled labels"),
    ),
}
"""Secondary comparisons, corrected among themselves, by what was run."""
HALVES = {"draw": ("second", ", both draws"), "seed": ("draw", ", both seeds")}
"""What was asked once more: of what it is the other half, and what both together are called."""


def learned(answers: Kept) -> Kept:
    """Answers to questions of kinds that experts learned, whatever a run called their data set."""
    return {
        model: [record.model_copy(update={"dataset": "learned"}) for record in records if record.dataset != "reworded"]
        for model, records in answers.items()
    }


def beside_second(name: str) -> Kept:
    """Answers of a run and, of arms that it has not, those of the second round to the same questions."""
    own, second = learned(kept(name)), learned(kept("second"))
    found = {}
    for model, records in own.items():
        arms, asked = {record.arm for record in records}, {record.id for record in records}
        found[model] = records + [r for r in second[model] if r.arm not in arms and r.id in asked]
    return found


def both_halves(name: str) -> Kept:
    """Answers of both, of models that have both, as if to two questions: the unit of every interval is the kind."""
    first = learned(kept(HALVES[name][0]))
    found = {}
    for model, records in learned(kept(name)).items():
        if model in first:
            arms = {record.arm for record in records}
            again = [record.model_copy(update={"id": f"again/{record.id}"}) for record in records]
            found[model] = [r for r in first[model] if r.arm in arms] + again
    return found


def parts_of(name: str) -> dict[str, list[Answered]]:
    """What is compared, by model; what was asked once more both by itself and with its other half."""
    if name not in HALVES:
        return by_model(beside_second(name))
    return by_model(learned(kept(name))) | by_model(both_halves(name), HALVES[name][1])


def by_model(answers: Kept, added: str = "") -> dict[str, list[Answered]]:
    """Answers by model, and of all models together where several have the same arms; ``added`` to each name."""
    found = parts(answers, {added: ("learned",)})
    arms = {frozenset(record.arm for record in records) for records in answers.values()}
    mixed = len(answers) > 1 and len(arms) == 1
    return {of: own for of, own in found.items() if of != MIXTURE + added or mixed}


def comparisons(name: str) -> list[Comparison]:
    """Of each part, corrected among themselves."""
    return corrected_pairs(parts_of(name), name)


def corrected_pairs(of: Mapping[str, list[Answered]], name: str) -> list[Comparison]:
    """Of some parts of a run likewise."""
    return corrected(list(_compared(of, name)), set())


def _compared(of: Mapping[str, list[Answered]], name: str) -> Iterable[Comparison]:
    for own in of.values():
        arms = {record.arm for record in own}
        yield from (compared(own, *pair) for pair in PAIRS[name] if arms >= set(pair))


def main() -> None:
    for name in PAIRS:
        if not kept(name):
            continue
        found = comparisons(name)
        summary = {
            "hashes": hashes(name),
            "rows": rows(parts_of(name)),
            "comparisons": [one.model_dump() for one in found],
        }
        write_text(RESULTS / name / "summary.json", json.dumps(summary, indent=1) + "\n")
        for one in found:
            interval = f"{one.difference:+.1f} [{one.ci_low:.1f}, {one.ci_high:.1f}]"
            print(f"{name}, {one.dataset}: {one.a} − {one.b}: {interval}, p {one.p_holm:.3g}")


if __name__ == "__main__":
    main()

"""What a summary allows to say, in plain words, and no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.matching_controls import RANDOM_NEIGHBOURS, lacking, lacking_in_words
from ..records.summary import FEW_REFERENCES, SIGNIFICANT, AmongDraws, Comparison, Row, Summary


def sentences(summary: Summary, alone: str | None = None) -> list[str]:
    """What may be said, in plain words, one line per arm, or per verdict and reason that several arms have, but for one
    that stands ``alone``; first what is missing of a run that is not finished, which questions are repeated, that
    there are hardly any references, and which controls an arm that was to get all has not.

    Of an arm that could be used it is said what its verdict is; of the base, of bounds and of mere controls, whether a
    gain may be claimed: if the interval excludes zero and p is below 0.05. That neighbours matter is claimed likewise,
    of the comparison with random ones, and so is what an arm has beside each of its other controls. That the
    likelihood of right answers is better or worse is said where its interval excludes zero. Of a primary comparison it
    is said that it is one.
    """
    dataset = summary.shown_dataset
    rows = summary.on(dataset)
    lines = [f"Not finished: {what}." for what in summary.missing]
    lines += [f"Counted once: {what}." for what in summary.counted_once]
    lines += [f"Poisoned: {what}." for what in summary.poisoned]
    lines += _few_references(rows)
    lines += _lacking(rows, summary)
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        head, tail = _sentence(row, summary)
        said.setdefault((tail, row.arm if row.role != "method" or row.arm == alone else ""), []).append(head)
    lines += [f"{'; '.join(heads)}{tail}" for (tail, _), heads in said.items()]
    methods = [row for row in rows if row.role == "method"]
    if methods and all(row.role != "control" for row in rows):
        lines.append("No control was run: what a gain comes from cannot be said.")
    elif any(row.setting.retriever for row in methods) and not any(RANDOM_NEIGHBOURS in r.setting.varies for r in rows):
        lines.append("No control with random neighbours was run: nothing can be said about the neighbours.")
    lines += [_compared(c) for c in summary.comparisons if c.dataset == dataset and (c.a, c.b) in summary.compare]
    lines += [_among_draws(d, summary) for d in summary.draws if d.dataset == dataset]
    return lines if summary.audit is None else [*lines, summary.audit]


def _among_draws(d: AmongDraws, summary: Summary) -> str:
    gain = summary.find(d.dataset, d.arm, summary.baseline)
    with_interval = f"{d.gain:+.1f} {_interval(gain)}" if gain else f"{d.gain:+.1f}"
    if d.p is None:
        claim = "no p, which takes 99 draws"
    elif d.p >= SIGNIFICANT:
        claim = f"p = {d.p:.2f}, it cannot be told from its draws"
    else:
        claim = f"p = {d.p:.2f}, {'better' if d.gain > d.mean else 'worse'} than its draws"
    span = f"{d.mean:+.1f} points on average, {d.lowest:+.1f} to {d.highest:+.1f}"
    return f"{d.arm} ({with_interval}) among {d.draws} draws of {d.control} ({span}): {claim}."


def _compared(c: Comparison) -> str:
    claim = {1: "better", -1: "worse", 0: "no difference can be claimed"}[c.claimed] + _caveat(c)
    by = f"{c.difference:+.1f} points {_interval(c)}"
    over = "" if c.unit == "question" else f", as the mean over {c.kinds} kinds"
    alone = f" Primary: tested alone, p = {c.p:.2g}." if c.primary else ""
    nll = _likelihood(c.nll_difference, c.nll_ci_low, c.nll_ci_high)
    return f"{c.a} beside {c.b}{over}: {by} at {100 * c.cost_ratio:.0f} % of its cost: {claim}{nll}.{alone}"


def _sentence(row: Row, summary: Summary) -> tuple[str, str]:
    """An arm with its figures, and what is said of them."""
    head = f"{row.arm}: {row.accuracy:.1f} %"
    gain = summary.find(row.dataset, row.arm, summary.baseline)
    if gain is None:  # every arm but the base has one
        where = "as the mean over data sets" if row.dataset == "all" else f"of {row.dataset}"
        return head, f" {where} ({row.n} questions), the model left alone."
    head = f"{head}, {gain.difference:+.1f} points over {summary.baseline} {_interval(gain)}"
    head += f" (primary, tested alone: p = {gain.p:.2g})" if gain.primary else ""
    if row.role == "oracle":
        return head, f": an upper bound that uses the labels{_by_steps(row)}, not a method."
    said = _claim(gain) if row.role == "control" else f"{row.verdict or 'no verdict'} ({row.because})"
    if row.layers == 0 and row.setting.selector is not None:
        said += " (it re-mixed no layer of any question)"
    said += _fewer(row) + _likelihood(row.nll_difference, row.nll_ci_low, row.nll_ci_high)
    if row.role == "control":
        return (
            head,
            f": {said}. It is a control, with {' and '.join(row.setting.varies) or 'the core mixed and no step'}.",
        )
    beside = _against_random(row, summary)
    parts = ([] if beside is None else [_neighbours(beside)]) + _beside_others(row, summary)
    return head, f": {'; '.join([said, *parts])}."


def _few_references(rows: Sequence[Row]) -> list[str]:
    """That arms had hardly any to learn from, if so."""
    known = min((row.labels for row in rows if row.labels and row.setting.retriever), default=FEW_REFERENCES)
    if known >= FEW_REFERENCES:
        return []
    return [
        f"Few references: {known:.0f}. Neighbours are most of them, near or not, and what is learned rests on so many; "
        "give more."
    ]


def _lacking(rows: Sequence[Row], summary: Summary) -> list[str]:
    """Of arms that were to get their controls: which they have not."""
    wanted, settings = summary.config.get("controlled"), {row.arm: row.setting for row in rows}
    named = wanted if isinstance(wanted, list | tuple) else ()
    judged = [row for row in rows if row.arm in named and row.role == "method"]
    return lacking_in_words({row.arm: lacking(row.arm, row.controls, settings) for row in judged})


def _by_steps(row: Row) -> str:
    """Which steps a bound took: those of the optimizer that it bounds."""
    optimizer = row.setting.optimizer
    of = None if optimizer is None else optimizer.parameter("of")
    if not isinstance(of, Mapping) or "lr" not in of:
        return ""
    lr = of["lr"]  # a plugin's parameters may be of any kind
    rate = f"a rate of {f'{lr:g}' if isinstance(lr, int | float) else lr}"
    rate = "a rate that references choose" if lr is None else rate
    if "steps" not in of:
        return f", by the step of {of['name']} (at {rate})"
    by = f" by {of['step']}" if "step" in of else ""
    return f", by the steps of {of['name']} ({of['steps']}{by} from {rate})"


def _against_random(row: Row, summary: Summary) -> Comparison | None:
    """An arm minus its control with random neighbours."""
    drawn = [other.arm for other in summary.on(row.dataset) if other.setting.varies == (RANDOM_NEIGHBOURS,)]
    found = (summary.find(row.dataset, row.arm, name) for name in drawn if name in row.controls)
    return next((c for c in found if c is not None), None)


def _beside_others(row: Row, summary: Summary) -> list[str]:
    """An arm minus each of its controls that has no sentence of its own."""
    neighbours, asked = _against_random(row, summary), {frozenset(pair) for pair in summary.compare}
    names = [name for name in row.controls if frozenset((row.arm, name)) not in asked]
    found = [c for name in names if (c := _either_way(summary, row, name)) is not None]
    claims = [_beside(c) for c in found if neighbours is None or c.b != neighbours.b]
    return [f"beside its {'other ' if neighbours else ''}controls: {', '.join(claims)}"] if claims else []


def _either_way(summary: Summary, row: Row, control: str) -> Comparison | None:
    """An arm minus its control; of two that are controls of each other the pair appears once."""
    found = summary.find(row.dataset, row.arm, control)
    other = None if found else summary.find(row.dataset, control, row.arm)
    return other.mirrored if other else found


def _beside(c: Comparison) -> str:
    claim = {1: "better", -1: "worse", 0: "not told apart"}[c.claimed]
    claim += " before Holm's correction" if _caveat(c) else ""
    return f"{c.b} {c.difference:+.1f} {_interval(c)} ({claim})"


def _likelihood(difference: float | None, low: float | None, high: float | None) -> str:
    """Whether right answers are shown to be likelier or less likely; nothing where neither is."""
    if difference is None or low is None or high is None or low <= 0 <= high:
        return ""
    return f"; its NLL is {'worse' if low > 0 else 'better'} ({difference:+.3f} [{low:.3f}, {high:.3f}])"


def _fewer(row: Row) -> str:
    """Whether an answerer of its own used fewer neighbours than it was to use."""
    retriever, used = row.setting.retriever, row.neighbours_used
    if row.setting.answerer is None or retriever is None or used is None:
        return ""
    asked = retriever.number("k")
    if asked is None or used > asked - 0.05:
        return ""
    return f" (it used {used:.1f} of {asked} neighbours on average: no more were found, or fit into the context)"


def _claim(c: Comparison) -> str:
    claim = {1: "a gain", -1: "a loss", 0: "no gain can be claimed"}[c.claimed]
    return claim + _caveat(c)


def _caveat(c: Comparison) -> str:
    """Said aloud, because the rule looks at one comparison and a run makes many."""
    return ", though not after Holm's correction" if c.claimed and c.p_holm >= SIGNIFICANT else ""


def _neighbours(c: Comparison) -> str:
    by = f"({c.difference:+.1f} points {_interval(c)})"
    by += _caveat(c)
    match c.claimed:
        case 1:
            return f"its neighbours matter: it beats its control, random neighbours {by}"
        case -1:
            return f"its neighbours mislead: its control, random neighbours, does better {by}"
    if abs(c.difference) < 0.05:
        return f"its control, random neighbours, reaches the same {by}"
    return f"it cannot be told from its control, random neighbours {by}"


def _interval(c: Comparison) -> str:
    return f"[{c.ci_low:.1f}, {c.ci_high:.1f}]"

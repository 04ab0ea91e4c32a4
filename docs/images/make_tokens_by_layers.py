"""Draws ``tokens_by_layers.png`` beside itself: how the embedded model routes a short text, and what banning one expert
moves. Run it anywhere: ``python docs/images/make_tokens_by_layers.py``.
"""

import io
from pathlib import Path

import torch
from PIL import Image

from c3po_adaptive import Change, LayerRouting, load_moe_model
from c3po_adaptive.models.traced import record

TEXT = "Which object can float on water? A wooden boat."
EXPERT = 11
COLORS = 256  # enough for two shades, in half of the bytes


def banned(routing: LayerRouting) -> Change:
    """The best experts but one, weighed as the layer weighs its own choice."""
    logits = routing.logits.clone()
    logits[:, EXPERT] = -torch.inf
    return routing.change(logits.topk(routing.index.shape[1]).indices, logits)


def main() -> None:
    """Write the picture."""
    model = load_moe_model("smollm2-moe")
    own, other = record(model, TEXT), record(model, TEXT, rule=banned)
    figure = own.plot(other, names=("as the model routes it", f"with expert {EXPERT} banned"))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    picture = Image.open(drawn).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    picture.save(Path(__file__).with_name("tokens_by_layers.png"), optimize=True)


if __name__ == "__main__":
    main()

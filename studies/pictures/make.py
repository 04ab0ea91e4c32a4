"""Make what the study asks and whom: pictures of shapes, a tiny vision-language model trained on them, a broken copy.

    python studies/pictures/make.py build/pictures

Pictures have one to four objects of one shape and one color, each in a cell of its own. Kinds of questions are shape,
color and count; each has two experts of six, and routers are trained to use them at the prompt's last tokens.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import torch
from c3po_faults import Fault, write_faulty
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLMoeConfig,
    Qwen3VLProcessor,
)

from c3po_adaptive import Question
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.processors import of_images

CELL, SIDE = 28, 3  # pixels of a cell, which is a token of the model, and cells of a side
SHAPES = ("disc", "square", "triangle", "cross")
COLORS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 80, 220), "yellow": (230, 200, 40)}
COUNTS = ("one", "two", "three", "four")
KINDS = {"shape": SHAPES, "color": tuple(COLORS), "count": COUNTS}
WORDINGS = {
    "shape": ("which shape is shown ?", "what form do you see ?", "name the shape of these objects ."),
    "color": ("which color is shown ?", "what paint do you see ?", "name the color of these objects ."),
    "count": ("which number is shown ?", "how many do you see ?", "count the objects here ."),
}
PARTS = {"references": 300, "validation": 32, "test": 128}
IMAGE = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
STEPS, BATCH, SEED = 1500, 48, 0
FAULT = Fault("exchange", layers=(0, 1, 2), pairs=((0, 2), (1, 4), (3, 5)))
"""Every kind's experts are taken for others'."""


def drawn(rng: random.Random) -> tuple[Image.Image, dict[str, str]]:
    """A picture, and what is right of each kind."""
    shape, color, count = rng.choice(SHAPES), rng.choice([*COLORS]), rng.randrange(4)
    light = rng.randrange(225, 256)
    image = Image.new("RGB", (CELL * SIDE, CELL * SIDE), (light, light, light))
    draw = ImageDraw.Draw(image)
    fill = tuple(max(0, min(255, part + rng.randrange(-25, 26))) for part in COLORS[color])
    for cell in rng.sample(range(SIDE * SIDE), count + 1):
        size = rng.randrange(16, 23)
        x = cell % SIDE * CELL + rng.randrange(1, CELL - size)
        y = cell // SIDE * CELL + rng.randrange(1, CELL - size)
        box = (x, y, x + size, y + size)
        if shape == "disc":
            draw.ellipse(box, fill=fill)
        elif shape == "square":
            draw.rectangle(box, fill=fill)
        elif shape == "triangle":
            draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=fill)
        else:
            third = size // 3
            draw.rectangle((x, y + third, x + size, y + size - third), fill=fill)
            draw.rectangle((x + third, y, x + size - third, y + size), fill=fill)
    return image, {"shape": shape, "color": color, "count": COUNTS[count]}


def question(rng: random.Random, id_: str) -> Question:
    """One of a random kind, its picture in memory; choices stand in random order."""
    image, right = drawn(rng)
    kind = rng.choice([*KINDS])
    choices = rng.sample(KINDS[kind], 4)
    text = rng.choice(WORDINGS[kind])
    return Question(id_, text, tuple(choices), choices.index(right[kind]), kind, images=[image])


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word."""
    words = {word for texts in WORDINGS.values() for text in texts for word in text.split()}
    words |= {word for choices in KINDS.values() for word in choices} | {"Question:", "Answer:"}
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *IMAGE, *sorted(words)])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(IMAGE),
    )
    fast.chat_template = (
        "{% for turn in messages %}{% for part in turn.content %}"
        f"{{{{ '{''.join(IMAGE)}' if part.type == 'image' else part.text }}}}"
        "{% endfor %}{% endfor %}"
    )
    return fast


def untrained(words: PreTrainedTokenizerFast) -> torch.nn.Module:
    """Three layers of six experts, and a vision tower of two blocks: 0.5 million parameters."""
    ids = words.convert_tokens_to_ids(list(IMAGE))
    config = Qwen3VLMoeConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "num_experts": 6,
            "num_local_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1,
            "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 1, "dtype": "float32",
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
        },
        vision_config={
            "depth": 2, "hidden_size": 48, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids[1], vision_start_token_id=ids[0], vision_end_token_id=ids[2], tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(SEED)
    return AutoModelForImageTextToText.from_config(config)


def train(model: torch.nn.Module, processor: object) -> None:
    """On new pictures in each step: the answer's likelihood, and the share that routers give the kind's experts."""
    rng, began = random.Random(f"{SEED} training"), time.time()
    scores: list[torch.Tensor] = []
    for layer in model.get_decoder().layers:
        layer.mlp.gate.register_forward_hook(lambda module, args, out: scores.append(out[0]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        asked = [question(rng, "") for _ in range(BATCH)]
        texts = [f"{''.join(IMAGE)}Question: {q.question}\nAnswer:" for q in asked]
        inputs = processor(
            images=[q.images[0].source for q in asked],
            text=texts,
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        right = torch.tensor(processor.tokenizer.convert_tokens_to_ids([q.choices[q.answer] for q in asked]))
        scores.clear()
        last = model(**inputs, use_cache=False).logits[:, -1]
        loss = cross_entropy(last, right)
        kind = torch.tensor([[*KINDS].index(q.task) for q in asked])
        routed = torch.stack([s.view(BATCH, -1, 6)[:, -3:].softmax(-1) for s in scores])  # the last three tokens
        share = routed.unflatten(-1, (3, 2)).gather(3, kind.view(1, -1, 1, 1, 1).expand(*routed.shape[:3], 1, 2))
        apart = -share.sum(-1).clamp_min(1e-6).log().mean()
        even = -0.1 * share.clamp_min(1e-6).log().mean()  # both of the two
        optimizer.zero_grad()
        (loss + 0.5 * apart + even).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == STEPS - 1:
            hit = float((last.argmax(-1) == right).float().mean())
            said = f"step {step}: loss {loss:.3f}, right {hit:.2f}, share {share.sum(-1).mean():.3f}"
            print(said, f"{time.time() - began:.0f} s", flush=True)
    for layer in model.get_decoder().layers:
        layer.mlp.gate._forward_hooks.clear()


def write_questions(out: Path) -> None:
    """Files of questions, with their pictures beside them."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    for part, count in PARTS.items():
        rng, rows = random.Random(f"{SEED} {part}"), []
        for i in range(count):
            one = question(rng, f"{part}-{i}")
            path = Path("images", f"{one.id}.png")
            one.images[0].source.save(out / path)
            rows.append({**one.row(), "images": [str(path)], "split": part})
        (out / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def main(out: Path) -> None:
    write_questions(out)
    words = tokenizer()
    pixels = (CELL * SIDE) ** 2
    images = Qwen2VLImageProcessorPil(min_pixels=pixels, max_pixels=pixels, patch_size=14)
    processor = of_images(Qwen3VLProcessor)(images, words, None)
    model = untrained(words)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    train(model, processor)
    model.save_pretrained(out / "sound")
    processor.save_pretrained(out / "sound")
    write_faulty(load_moe_model(out / "sound"), FAULT, out / "broken")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

"""Questions with pictures, and what plain full forward passes of transformers make of them.

Every expert is mixed for every token, with the weights that an ``edit`` makes of the model's own, as in
``routing/naive.py``; the processor reads the whole text, option included.
"""

from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from PIL import Image

from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.models.tiny import tiny_moe, tiny_processor, tiny_tokenizer
from c3po_adaptive.routing.families import family as family_row
from c3po_adaptive.types import Question


def picture(seed, width=56, height=56):
    """An image of noise."""
    pixels = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray((255 * pixels).byte().numpy())


class ByHand:
    """In the place of a processor that transformers makes with torchvision alone: square images of so many pixels.

    ``shape`` is that of the family's pixels: whole images, images with their sizes, or patches with their grid.
    ``framed``: whether the tokens that a picture becomes have others around them.
    """

    image_token, image_token_id = "<image>", 101
    skip_tensor_conversion = ("num_local_patches", "patches_grid")

    def __init__(self, side, tokens, shape, *framed):
        self.side, self.tokens, self.shape = side, tokens, shape
        self.full = f"<picture>{'<image>' * tokens}</picture>" if framed else "<image>" * tokens
        self.tokenizer = tiny_tokenizer(("<picture>", "<image>", "</picture>"))

    def __call__(self, text, images=None, return_tensors="pt", add_special_tokens=True):
        whole = [one.replace(self.image_token, self.full) for one in text]
        made = dict(self.tokenizer(whole, return_tensors="pt", add_special_tokens=add_special_tokens))
        if not images:
            return made
        resized = [torch.from_numpy(np.array(one.resize((self.side, self.side)))) for one in images]
        pixels = torch.stack(resized).permute(0, 3, 1, 2) / 255 - 0.5
        count, cells = len(images), self.side // 14
        if self.shape == "images":
            return made | {"pixel_values": pixels}
        if self.shape == "places":
            patches = pixels.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
            grid = torch.cartesian_prod(*[torch.arange(self.side // 16)] * 2).flip(-1).expand(count, -1, -1)
            kinds = (made["input_ids"] == self.image_token_id).long()
            return made | {"pixel_values": patches, "image_position_ids": grid, "mm_token_type_ids": kinds}
        if self.shape == "sizes":
            return made | {"pixel_values": pixels, "image_sizes": torch.tensor([[self.side, self.side]] * count)}
        if self.shape == "tiles":  # whole, and beside it two tiles, told by lists
            local = torch.stack([pixels, pixels.flip(-1)], 1).flatten(0, 1)
            told = {"num_local_patches": [2] * count, "patches_grid": [[2, 1]] * count}
            return made | {"pixel_values": pixels, "pixel_values_local": local} | told
        if self.shape == "films":  # a token is a patch of two frames
            patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(-1, 1, 4, 4, 3)
            return made | {"pixel_values": patches.expand(-1, 2, -1, -1, -1)}
        if self.shape == "tokens":  # four patches of one are side by side
            patches = pixels.unfold(2, 28, 28).unfold(3, 28, 28).permute(0, 2, 3, 4, 5, 1).reshape(-1, 28, 28, 3)
            grid = torch.tensor([[1, self.side // 28, self.side // 28]] * count)
            return made | {"pixel_values": patches, "image_grid_thw": grid}
        patches = pixels.unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 14, 14)
        if self.shape == "packed":
            return made | {"pixel_values": patches.flatten(1), "image_grid_hw": torch.tensor([[cells, cells]] * count)}
        if self.shape == "frames":  # a picture is a film of two
            patches = patches[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)
        return made | {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, cells, cells]] * count)}


class Marked(ByHand):
    """A picture is another token in a text than those that it becomes."""

    image_token, image_token_id, img_patch_token = "<picture>", 100, "<image>"


BY_HAND = {
    "aria": (28, 2, "images"),
    "deepseek_ocr2": (64, 145, "images"),
    "gemma4": (96, 4, "places", "framed"),
    "inkling2": (56, 4, "tokens"),
    "inkling_mm_model": (8, 4, "films"),
    "kimi_k25": (56, 4, "grid"),
    "llama4": (56, 4, "images", "framed"),
    "minimax_m3_vl": (56, 4, "frames"),
    "mistral_large4": (56, 4, "sizes"),
    "muse_spark": (56, 4, "frames", "framed"),
    "nemotron_h_omni": (56, 4, "packed", "framed"),
    "step3p7": (112, 4, "images", "framed"),
    "unlimited_ocr": (64, 6, "tiles"),
}
"""Pixels of a side, tokens of an image, and the shape; what is framed."""


def processor_of(family):
    """Transformers' own, or what stands in its place."""
    made = Marked if family == "llama4" else ByHand
    return made(*BY_HAND[family]) if family in BY_HAND else tiny_processor(family)


def mark_of(family):
    """What stands for a picture in a text."""
    pictures = family_row(family).pictures
    return "".join(pictures.tokens) if pictures else processor_of(family).image_token


def seeing(family) -> RoutedModel:
    """A tiny model that reads images, with its processor."""
    processor = processor_of(family)
    return RoutedModel(tiny_moe(family), processor.tokenizer, name=family, processor=processor)


QUESTIONS = [
    Question("one", "What is it?", ("wood", "a boat", "x"), 1, images=[picture(0)]),
    Question("none", "What floats?", ("wood", "stone"), 0),
    Question("two", "Which is which?", ("a", "b"), 0, images=[picture(1, 84, 56), picture(2, 28, 84)]),
]


def read(model, question, option=""):
    """What the processor makes of a question with an option, in the cloze format."""
    text = mark_of(model.name) * len(question.images) + f"Question: {question.question}\nAnswer:{option}"
    images = [image.source for image in question.images] or None
    return dict(model.processor(images=images, text=[text], return_tensors="pt"))


@contextmanager
def edited(model, edit):
    """The model, with all of its experts mixed as ``edit(number, routing [R, E]) -> [R, E]`` says."""

    def hook_of(number, n_experts):
        def hook(module, args):
            hidden, index, weights = args
            routing = torch.zeros(len(index), n_experts, dtype=weights.dtype).scatter(1, index, weights)
            everyone = torch.arange(n_experts).expand(len(index), -1)
            return hidden, everyone, edit(number, routing).to(weights.dtype)

        return hook

    def scores_of(number):  # llama4 multiplies what enters every expert by its score
        return lambda module, args, output: (edit(number, output[0]).to(output[0].dtype), output[1])

    handles = [
        s.router.register_forward_hook(scores_of(i))
        if model.name == "llama4"
        else s.experts.register_forward_pre_hook(hook_of(i, s.n_experts))
        for i, s in enumerate(model.sites)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def routing_of(model, inputs):
    """Experts and their weights ``[R, k]`` of each MoE layer in a full forward with the pixels."""
    used = []

    def note(module, args):
        used.append(args[1:])

    def note_scores(module, args, output):
        index = output[1].topk(module.top_k).indices
        used.append((index, output[0].gather(1, index)))

    handles = [
        s.router.register_forward_hook(note_scores)
        if model.name == "llama4"
        else s.experts.register_forward_pre_hook(note)
        for s in model.sites
    ]
    model.model(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    return used


def choice_scores(model, question, edit=None):
    """Normalized log-likelihood of each choice ``[C]``, one full forward with the pixels an option."""
    if edit is None:
        return plain_scores(model, question)
    with edited(model, edit):
        return full_scores(model, question)


@cache
@torch.no_grad()
def plain_scores(model, question):
    """Along the model's own routing, once a question."""
    return full_scores(model, question)


def full_scores(model, question):
    scores = []
    start = read(model, question)["input_ids"].shape[1]
    for choice in question.choices:
        inputs = read(model, question, f" {choice}")
        ids = inputs["input_ids"][0]
        logs = model.model(**inputs, use_cache=False).logits[0, start - 1 : -1].log_softmax(-1)
        scores.append(logs[range(len(ids) - start), ids[start:]].mean())
    return torch.stack(scores)

"""Reference sets under other labels are what would be built."""

from dataclasses import replace

import torch
from routing.naive import shared_model
from routing.toys import HashEmbedder, questions, reference_set

from c3po_adaptive.references.build import build_reference_set, relabeled


def test_is_what_would_be_built():
    model, known, more = shared_model("olmoe"), questions(24), questions(3, "more")
    taught = [replace(q, answer=(q.answer + 1) % len(q.choices)) for q in known[:12]] + known[12:] + more
    made = relabeled([reference_set("olmoe"), build_reference_set(model, more, HashEmbedder())], taught)
    built = build_reference_set(model, taught, HashEmbedder())
    assert made.questions == built.questions and torch.equal(made.correct, built.correct)
    torch.testing.assert_close(made.pathways, built.pathways, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.embeddings, built.embeddings)
    assert made.card == built.card
    made.check(model, "cloze", HashEmbedder())

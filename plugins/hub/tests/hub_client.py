"""What a user does with a hub, in a process of its own: run as a script, whose hub is named by ``HF_ENDPOINT``."""

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from c3po_adaptive import C3POError, Pathway, Question, ReferenceSet, load_moe_model
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder

TEXT = "Which object can float on water?"
NAMES = ["boat", "stone", "wood", "iron", "cork", "leaf"]


def result(case):
    """What a case gives, or the error that it ends with."""
    try:
        return case()
    except C3POError as error:
        return f"{type(error).__name__}: {error}"


def a_set(model):
    asked = [Question(f"q{i}", f"What is {NAMES[i % 6]} {i}?", ("a", "bb"), i % 2, task="toy") for i in range(12)]
    built = build_reference_set(model, asked, default_embedder())
    return replace(built, correct=torch.ones(12, dtype=torch.bool))


def same_set(one, other):
    tensors = ("embeddings", "pathways", "correct")
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in tensors) and (
        one.questions == other.questions and one.scores == other.scores
    )


def a_pathway(model):
    own = model.pathway(TEXT)
    return model.with_origin(replace(own, router=own.weights.flip(-1)), TEXT, keep_text=True)


def pushed_cards(pathway):
    """Commits: pushed, pushed again, its card altered by a person, and pushed; and what each push warned of."""
    from huggingface_hub import HfApi, RepoCard

    name, commits, warned = "someone/carded", [], []

    def push(license):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            commits.append(pathway.push_to_hub(name, license=license).oid)
        warned.append([str(w.message) for w in said if w.category is UserWarning])

    push("mit")
    push("cc-by-4.0")
    altered = RepoCard.load(name).content.replace("## Use", "## What I found\n\nMuch.\n\n## Use")
    commits.append(HfApi().upload_file(path_or_fileobj=altered.encode(), path_in_repo="README.md", repo_id=name).oid)
    push("mit")
    return commits, warned


def online():
    """Push and load, and what goes wrong; a writing token is in the environment."""
    model = load_moe_model("someone/tiny-olmoe")
    references, pathway = a_set(model), a_pathway(model)
    done = {}
    commit = references.push_to_hub("someone/a-set", license="cc-by-4.0", commit_message="Twelve questions")
    loaded = ReferenceSet.from_pretrained("someone/a-set")
    done["set"] = [same_set(references, loaded), str(loaded.folder), commit.oid]
    few = references.subset(torch.arange(6))
    few.push_to_hub("someone/a-set")
    for name, revision in (("newest", None), ("first", commit.oid), ("branch", "main")):
        done[name] = len(ReferenceSet.from_pretrained("someone/a-set", revision=revision))
    again = ReferenceSet.from_pretrained("someone/a-set", revision=commit.oid)
    done["kept once"] = str(again.folder)

    pushed = pathway.push_to_hub("someone/a-pathway", private=True)
    read = Pathway.from_pretrained("someone/a-pathway")
    done["pathway"] = [
        torch.equal(read.weights, pathway.weights) and torch.equal(read.own, pathway.own),
        read.origin == pathway.origin,
        torch.equal(model.forward(TEXT, read).logits, model.forward(TEXT, pathway).logits),
        pushed.commit_url,
    ]
    done["another model"] = result(lambda: load_moe_model("someone/other-olmoe").forward(TEXT, read))

    def snippet(kind, name):
        folder = Path(ReferenceSet.from_pretrained(name).folder) if kind == "dataset" else None
        from huggingface_hub import RepoCard

        text = RepoCard.load(name, repo_type=kind).text
        (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
        space = {}
        exec(code, space)
        return [folder is None or folder.is_dir(), type(space["model"]).__name__]

    done["set's snippet"] = snippet("dataset", "someone/a-set")
    done["pathway's snippet"] = snippet("model", "someone/a-pathway")

    done["cards"] = pushed_cards(pathway)
    load, push = ReferenceSet.from_pretrained, few.push_to_hub
    done |= {
        name: result(case)
        for name, case in {
            "no repository": lambda: load("someone/nothing"),
            "of the other kind": lambda: load("someone/a-pathway"),
            "no revision": lambda: load("someone/a-set", revision="v9"),
            "no file": lambda: load("someone/empty"),
            "gated": lambda: load("someone/gated"),
            "damaged": lambda: load("someone/damaged"),
            "no name": lambda: load("../a/set"),
            "no folder": lambda: Pathway.from_pretrained("./nowhere"),
            "private, without a token": lambda: Pathway.from_pretrained("someone/hidden", token=False),
            "pushed without a token": lambda: push("someone/more", token=False),
            "pushed with a reader's": lambda: push("someone/more", token="may-read"),
            "pushed with a wrong one": lambda: push("someone/more", token="nonsense"),
            "public already": lambda: push("someone/a-set", private=True),
            "of no model": lambda: model.pathway(TEXT).push_to_hub("someone/more"),
        }.items()
    }
    return done


def offline():
    """The cache alone; no token."""
    kept = ReferenceSet.from_pretrained("someone/a-set")
    return {
        "kept": len(kept),
        "not kept": result(lambda: ReferenceSet.from_pretrained("someone/other-set")),
        "not this revision": result(lambda: ReferenceSet.from_pretrained("someone/a-set", revision="v9")),
        "pushed": result(lambda: kept.push_to_hub("someone/a-set", token="may-write")),
        "no token": result(lambda: kept.push_to_hub("someone/a-set")),
    }


if __name__ == "__main__":
    print(json.dumps({"online": online, "offline": offline, "unreachable": offline}[sys.argv[1]]()))

"""``--model c3po`` without an optimizer beside lm-evaluation-harness's own ``hf``: speed and parity.

    python studies/speed/harness.py --out studies/speed/results/harness.json

Needs the extra ``eval``. Both answer the same requests of five local tasks, made from the demo's questions, on the same
checkpoint, with the same batch size, in turns; what is timed is the call that the harness makes of a model, in
processor time of one thread, so that other work on the machine does not count. Differences of log-likelihoods are told
from ``hf`` as it is, and from ``hf`` with its softmax in float64.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from c3po_harness import C3POLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from turns import a_second, in_turns, over

from c3po_adaptive.models.loading import source_of
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import routing_versions
from c3po_adaptive.tasks import demo_questions

QUESTION = "Question: {{question}}\nAnswer:"
LISTED = "Question: {{question}}\n{% for c in choices %}{{'ABCDEFGH'[loop.index0]}}. {{c}}\n{% endfor %}Answer:"
TASKS = {
    "options": {"output_type": "multiple_choice", "doc_to_text": QUESTION, "doc_to_choice": "choices"},
    "letters": {"output_type": "multiple_choice", "doc_to_text": LISTED, "doc_to_choice": "letters"},
    "continuation": {"output_type": "loglikelihood", "doc_to_text": QUESTION, "doc_to_target": " {{right}}"},
    "texts": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text"},
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": QUESTION,
        "doc_to_target": "right",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24, "do_sample": False},
    },
}
IN_A_TEXT = 8  # questions, with their answers


def write_tasks(folder: Path, count: int) -> None:
    """The questions, and a task of each kind about them."""
    questions = demo_questions("test", limit=count)
    told = [f"{q.question} {q.choices[q.answer]}." for q in questions]
    docs = [
        {
            "question": q.question,
            "choices": list(q.choices),
            "letters": list("ABCDEFGH"[: len(q.choices)]),
            "answer": q.answer,
            "right": q.choices[q.answer],
            "text": " ".join((told[i:] + told)[:IN_A_TEXT]),
        }
        for i, q in enumerate(questions)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "questions.jsonl")}}}
    for name, task in TASKS.items():
        config = {"task": name, "test_split": "test", "doc_to_target": "answer", **data, **task}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def answered(lm, requests):
    """What a model answers, by the call that the harness makes."""
    return getattr(lm, requests[0].request_type)(requests, disable_tqdm=True)


def apart(ours, theirs) -> float:
    """How far log-likelihoods of the same requests are at most."""
    return max(abs(first(a) - first(b)) for a, b in zip(ours, theirs, strict=True))


def first(answer):
    return answer[0] if isinstance(answer, tuple) else answer


def parity(ours, exact, theirs) -> dict[str, float]:
    """Share of texts, or of greedy flags, that are the same; and differences of log-likelihoods."""
    if isinstance(ours[0], float):
        return {"difference": apart(ours, theirs), "difference_float64": apart(ours, exact)}
    same = [a == b if isinstance(a, str) else a[1] == b[1] for a, b in zip(ours, theirs, strict=True)]
    told = {"same": sum(same) / len(same)}
    return told if isinstance(ours[0], str) else parity([*map(first, ours)], [*map(first, exact)], theirs) | told


def row(name: str, task, ours, theirs, repeats: int) -> dict:
    """Both on the requests of one task, in turns."""
    task.set_config("num_fewshot", 0)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    ways = {"c3po": partial(answered, ours, task.instances), "hf": partial(answered, theirs, task.instances)}
    seconds, found = in_turns(ways, repeats)
    theirs.softmax_dtype = torch.float64
    exact = answered(theirs, task.instances)
    theirs.softmax_dtype = None
    questions = len(task.eval_docs)
    return {
        "task": name,
        "questions": questions,
        "requests": len(task.instances),
        **a_second(seconds, questions),
        **over(seconds["hf"], seconds["c3po"]),
        **parity(found["c3po"], exact, found["hf"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--model", default="smollm2-moe")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours = C3POLM(given.model, batch_size=given.batch)
    theirs = HFLM(source_of(given.model), batch_size=given.batch, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        write_tasks(Path(place), given.questions)
        tasks = TaskManager(include_path=place, include_defaults=False).load(list(TASKS))["tasks"]
        rows = [row(name, tasks[name], ours, theirs, given.repeats) for name in TASKS]
    summary = {
        "model": given.model,
        "dtype": str(ours.routed.model.dtype).removeprefix("torch."),
        "batch": given.batch,
        "repeats": given.repeats,
        "threads": torch.get_num_threads(),
        "versions": routing_versions() | {"lm_eval": version("lm_eval")},
        "rows": rows,
    }
    write_text(given.out, json.dumps(summary, indent=1) + "\n")
    for one in rows:
        print(one)


if __name__ == "__main__":
    main()

"""Tasks of lm-evaluation-harness made from a few words: one of each kind, and some that are hard to read."""

import json

import yaml
from lm_eval.tasks import TaskManager

QUESTION = "Question: {{question}}\nAnswer:"
DOCS = [
    {"question": "which of them floats?", "choices": ["a stone", "a boat", "an iron nail"], "answer": 1},
    {"question": "which of them sinks?", "choices": ["a cork", "a coin"], "answer": 1},
    {"question": "who barks", "choices": ["a dog", "a cat", "a cow", "a hen"], "answer": 0},
    {"question": "what is hot?", "choices": ["fire", "ice"], "answer": 0},
    {"question": "what is a colour?", "choices": ["red", "ten", "run"], "answer": 0},
]
ROWS = [
    d
    | {
        "right": d["choices"][d["answer"]],
        "letters": list("ABCDEF"[: len(d["choices"])]),
        "text": f"{d['question']} {d['choices'][d['answer']]}. " * (1 + 30 * (i == 0)),
        "blank": f"{d['question']} the answer",
        "id": f"d{i}",
    }
    for i, d in enumerate(DOCS)
]
TASKS = {
    "options": {"output_type": "multiple_choice", "doc_to_text": QUESTION, "doc_to_choice": "choices"},
    "letters": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\n{% for c in choices %}{{letters[loop.index0]}}. {{c}}\n{% endfor %}Answer:",
        "doc_to_choice": "letters",
    },
    "blanks": {
        "output_type": "multiple_choice",
        "description": "Say what is right.\n\n",
        "doc_to_text": "{{question}}\n\n",  # blanks go to the options
        "doc_to_choice": "choices",
        "target_delimiter": "",
    },
    "information": {
        "output_type": "multiple_choice",
        "doc_to_text": QUESTION,
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}],
    },
    "own_contexts": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{answer}}",
        "doc_to_choice": "{{[blank ~ ' ' ~ choices[0], blank ~ ' ' ~ choices[1]]}}",
        "doc_to_target": "is right.",
    },
    "no_context": {"output_type": "multiple_choice", "doc_to_text": "", "doc_to_choice": "choices"},
    "several_right": {
        "output_type": "multiple_choice",
        "doc_to_text": QUESTION,
        "doc_to_choice": "choices",
        "doc_to_target": "{{[0, 1]}}",
    },
    "one": {"output_type": "loglikelihood", "doc_to_text": QUESTION, "doc_to_target": " {{right}}"},
    "texts": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "text"},
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": QUESTION,
        "doc_to_target": "right",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 12, "do_sample": False},
    },
}  # fmt: skip


def write_tasks(folder, names=tuple(TASKS)):
    """A YAML file for each of some tasks, and their documents; the folder."""
    data = folder / "docs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    splits = {"data_files": {"test": str(data), "train": str(data)}, "cache_dir": str(folder / "cache")}
    source = {"dataset_path": "json", "dataset_kwargs": splits, "test_split": "test", "training_split": "train"}
    for name in names:
        task = {"task": name, "doc_to_target": "answer", **source, **TASKS[name]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


def manager(folder):
    """Of these tasks alone: to look through all of the harness's own takes seconds."""
    return TaskManager(include_path=str(folder), include_defaults=False)


def requests(folder, name, shots=0):
    """What a task asks of a model."""
    task = manager(folder).load([name])["tasks"][name]
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return task.instances


def asked(lm, instances):
    """What a model answers to requests of one kind."""
    return getattr(lm, instances[0].request_type)(instances, disable_tqdm=True)

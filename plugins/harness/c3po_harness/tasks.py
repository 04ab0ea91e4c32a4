"""Tasks of lm-evaluation-harness that score options, as data sets by name: ``lm_eval:TASK``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from c3po_adaptive import ArtifactError, DataError, Question, UnknownNameError, as_format
from c3po_adaptive.errors import suggestion

PREFIX = "lm_eval:"
CLOZE = as_format("cloze")
"""Cuts a sentence at its blank, if it has one."""
SPLITS = {"test": "test", "validation": "validation", "train": "training"}
"""Ours, and what a task's methods call them."""


Row = dict[str, object]
Document = Mapping[str, object]
"""A row of a task's data, which its own templates read."""


class _Request(Protocol):
    args: tuple[str, str]


class _Settings(Protocol):
    task: str


class _Task(Protocol):
    """As much of a task of the harness as is asked here, beside ``has_test_docs``, ``test_docs`` and so on."""

    OUTPUT_TYPE: str
    config: _Settings
    multiple_input: int

    def doc_to_choice(self, doc: Document) -> list[str]: ...
    def doc_to_text(self, doc: Document) -> str | int: ...
    def doc_to_target(self, doc: Document) -> str | int | list[int]: ...
    def doc_to_prefix(self, doc: Document) -> str | None: ...
    def fewshot_context(self, doc: Document, *, num_fewshot: int, gen_prefix: str | None) -> str: ...
    def construct_requests(self, doc: Document, context: str) -> list[_Request]: ...


def rows(name: str, *, split: str | None, usual: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Questions of a task, without solved examples: each is the context that the harness gives a model, and choices are
    what it scores behind it, delimiter and all. Formats put them as they stand.

    Where each option has a context of its own, and one text is scored behind all of them (WinoGrande), the question is
    a sentence with a blank: what these contexts share, up to a whole word, a blank, and the text. Named in ``partial``
    of the cloze format, as ``winogrande`` is, such a task gives the options and scores the text alone, as there.

    Args:
        name: of a task, a tag or a group of the harness; or the path of a task's YAML file.
        split: ``test``, ``validation`` or ``train``. None: the first of the usual ones that there is.
        usual: splits.

    Yields:
        Where each stands, and its fields, as files have them.

    Raises:
        UnknownNameError: no such task.
        DataError: a task that does not score options, has not this split, or holds documents that are no questions
            with one right choice.
        ArtifactError: the harness is not installed.
    """
    group, tasks = _tasks(name)
    for task in tasks.values():
        if task.OUTPUT_TYPE != "multiple_choice":
            raise DataError(
                f"{PREFIX}{name}: expected tasks that score options (output_type: multiple_choice), got "
                f"{task.config.task!r} of the kind {task.OUTPUT_TYPE}; run that one by python -m c3po_harness "
                "--model c3po."
            )
    for task in tasks.values():
        yield from _rows(task, group, split, usual)


def _tasks(name: str) -> tuple[str | None, dict[str, _Task]]:
    """The task, or those of a group or tag, and what these are called together."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ArtifactError(
            f"Expected lm-evaluation-harness, for {PREFIX}{name}, but it is not installed; run pip install "
            "'c3po_adaptive[eval]', or give a JSONL file."
        ) from error
    file = Path(name)
    written = file.suffix in (".yaml", ".yml")
    manager = TaskManager(include_defaults=not written, include_path=str(file.parent) if written else None)
    known = {str(entry.yaml_path) if written else key: key for key, entry in manager.task_index.items()}
    if name not in known:
        listed = "" if written else "by lm-eval ls tasks"
        hint = suggestion(name, known, "a task of your own is named by its YAML file.", listed)
        raise UnknownNameError(f"Expected a task of lm-evaluation-harness, or a file of one, got {name!r}; {hint}")
    try:
        loaded = manager.load([known[name]])
    except Exception as error:  # tasks run code of their own, and fetch their data
        raise DataError(
            f"{PREFIX}{name}: expected a task that loads, got {type(error).__name__}: {error}; try lm-eval validate "
            "--tasks, and see that its data can be had."
        ) from error
    group = known[name] if len(loaded["tasks"]) > 1 else None
    return group, dict(loaded["tasks"])


def _rows(task: _Task, group: str | None, split: str | None, usual: Sequence[str]) -> Iterator[tuple[str, Row]]:
    there = [ours for ours, theirs in SPLITS.items() if getattr(task, f"has_{theirs}_docs")()]
    wanted = split if split is not None else next((one for one in usual if one in there), None)
    called = task.config.task
    if wanted not in there:
        hint = suggestion(str(wanted), there, "name one with split, or as lm_eval:TASK:SPLIT.")
        raise DataError(f"{PREFIX}{called}: expected a split, got {wanted!r}; {hint}")
    for number, doc in enumerate(getattr(task, f"{SPLITS[wanted]}_docs")()):
        where = f"{PREFIX}{called} ({wanted}), document {number}"
        asked, choices = _scored(task, doc, where)
        yield (
            where,
            {
                "id": f"{called}.{wanted}.{number:05d}",
                "question": asked,
                "choices": choices,
                "answer": _right(task, doc, where),
                "task": called if task.multiple_input else PREFIX + (group or called),
                "subject": called if group else "",
                "split": wanted,
            },
        )


def _scored(task: _Task, doc: Document, where: str) -> tuple[str, list[str]]:
    """What is asked, and its choices: blanks at the end of a context go with what follows it, as they do there."""
    context = task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc))
    requests = task.construct_requests(doc, context)[: len(task.doc_to_choice(doc))]  # behind them: without contexts
    contexts = [request.args[0].rstrip() for request in requests]
    texts = [request.args[0][len(c) :] + request.args[1] for request, c in zip(requests, contexts, strict=True)]
    asked, choices = _with_blank(contexts, texts) if task.multiple_input else (contexts[0], texts)
    if not asked.strip():
        raise DataError(
            f"{where}: expected a context that its options follow, or a sentence with one blank for them, got neither; "
            "choose another task."
        )
    return asked, choices


def _with_blank(contexts: Sequence[str], texts: Sequence[str]) -> tuple[str, list[str]]:
    """A sentence with a blank, and what fills it; "" where there is no such sentence."""
    alike = takewhile(lambda letters: len({*letters}) == 1, zip(*contexts, strict=False))
    shared = re.sub(r"\s*\S*$", "", "".join(letters[0] for letters in alike))
    sentence = f"{shared} _{texts[0]}"
    whole = shared and len({*texts}) == 1 and CLOZE.render(Question("", sentence, ("",))).prompt == shared
    return sentence if whole else "", [context[len(shared) :].strip() for context in contexts]


def _right(task: _Task, doc: Document, where: str) -> int:
    """The place of the right choice, by the harness's own rule."""
    choices = task.doc_to_choice(doc)
    gold: object = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, list) and len(gold) == 1:
        gold = gold[0]
    if isinstance(gold, str) and choices.count(gold) == 1:
        gold = choices.index(gold)
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(choices):
        return gold
    raise DataError(
        f"{where}: expected one right choice among {len(choices)}, got {gold!r}; choose a split with labels, or a task "
        "with one right choice each."
    )

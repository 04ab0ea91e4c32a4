"""``c3po/MODEL`` in inspect_ai: its own runner, on a tiny checkpoint, as it is, along a rule and re-mixed."""

import gc
import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai", reason="the extra inspect is not installed")

import c3po_harness.registered  # noqa: F401 (as its entry point does)
from c3po_harness import C3POModelAPI
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ContentImage, GenerateConfig, get_model
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import generate, multiple_choice, system_message
from inspect_ai.tool import ToolInfo

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.errors import SettingError, UnknownNameError
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = [  # theirs
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]
ROOT = Path(__file__).parents[3]
ASKED = ["Which object can float on water?", "Who barks?", "What is hot, and what is not?"]
RULE = "ban:3/5;top-k:1@last-1"
SMALL = {"name": "fixed", "n": 2, "experts": 5}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("olmoe"), "olmoe")


@pytest.fixture(scope="module")
def olmoe(checkpoint):
    return load_moe_model(checkpoint)


@pytest.fixture(scope="module")
def refset(tmp_path_factory):
    path = tmp_path_factory.mktemp("refset") / "facts.jsonl"
    things = ["boat", "stone", "cork", "coin", "leaf", "nail"]
    rows = [
        {"question": f"is a {a} or a {b} more wet?", "choices": [a, b], "answer": (i + j) % 2}
        for i, a in enumerate(things)
        for j, b in enumerate(things)
        if i < j
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(task, checkpoint, tmp_path, **args):
    """The log of an evaluation by inspect_ai."""
    (log,) = eval(
        task,
        model=f"c3po/{checkpoint}",
        model_args=args,
        log_dir=str(tmp_path / "logs"),
        display="none",
        max_tokens=6,
    )
    gc.collect()  # what they leave open is told where that is no error
    assert log.status == "success", log.error
    return log


def texts(log):
    return [sample.output.completion for sample in log.samples]


def open_task():
    return Task(dataset=[Sample(input=text, target="a") for text in ASKED], solver=generate(), scorer=includes())


def test_texts_are_the_models_own(checkpoint, olmoe, tmp_path):
    log = run(open_task(), checkpoint, tmp_path)
    assert texts(log) == olmoe.generate(ASKED, max_new_tokens=6, do_sample=False)
    assert log.results.scores[0].metrics["accuracy"].value in [i / 3 for i in range(4)]
    usage = log.samples[0].output.usage
    assert usage.input_tokens == len(olmoe.encode_text(ASKED[0]).ids)
    assert usage.output_tokens <= 6


def test_along_a_rule(checkpoint, olmoe, tmp_path):
    log = run(open_task(), checkpoint, tmp_path, rule=RULE)
    assert texts(log) == olmoe.generate(ASKED, rule_named(RULE), max_new_tokens=6, do_sample=False)
    assert texts(log) != olmoe.generate(ASKED, max_new_tokens=6, do_sample=False), "it acts"
    assert log.eval.model_args == {"rule": RULE}


def test_their_cache_keeps_answers_of_each_rule_apart(checkpoint, olmoe, tmp_path, monkeypatch):
    """lighteval turns it on; its key knows a model's name, and no argument."""
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    cached = Task(dataset=open_task().dataset, solver=generate(cache=True), scorer=includes())
    plain, along, again = (run(cached, checkpoint, tmp_path, **args) for args in ({}, {"rule": RULE}, {"rule": RULE}))
    assert texts(along) == texts(again) == olmoe.generate(ASKED, rule_named(RULE), max_new_tokens=6, do_sample=False)
    assert texts(along) != texts(plain)
    assert [any(sample.output.usage is None for sample in log.samples) for log in (plain, along)] == [False, False]


def test_re_mixed(checkpoint, olmoe, refset, tmp_path):
    args = {"refset": str(refset), "optimizer": {"name": "ngd", "steps": 40}, "selector": SMALL}
    log = run(open_task(), checkpoint, tmp_path, **args)
    api = C3POModelAPI(str(checkpoint), **args)
    states = olmoe.prefill([olmoe.encode_text(text) for text in ASKED])
    pathway = api.evaluated.remixer.remix(states, ASKED).pathway
    assert texts(log) == olmoe.generate(ASKED, pathway, max_new_tokens=6, do_sample=False)


def test_multiple_choice_by_a_generated_letter(checkpoint, tmp_path):
    samples = [Sample(input=text, choices=["a stone", "a boat", "a dog"], target="B") for text in ASKED]
    log = run(Task(dataset=samples, solver=multiple_choice(), scorer=choice()), checkpoint, tmp_path)
    assert len(log.samples) == 3
    assert log.results.scores[0].name == "choice"


def test_chats_stand_one_below_another_without_a_template(checkpoint, olmoe, tmp_path):
    task = Task(
        dataset=[Sample(input=ASKED[0], target="a")],
        solver=[system_message("Say what is right."), generate()],
        scorer=includes(),
    )
    wanted = olmoe.generate(f"Say what is right.\n\n{ASKED[0]}", max_new_tokens=6, do_sample=False)
    assert texts(run(task, checkpoint, tmp_path)) == [wanted]


def test_and_by_the_template_where_there_is_one(checkpoint):
    api = C3POModelAPI(str(checkpoint))
    with pytest.raises(SettingError, match="to have a chat template"):
        C3POModelAPI(str(checkpoint), chat_template=True)
    tokenizer = api.evaluated.routed.tokenizer
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    api.templated = True
    prompt = api._prompt([ChatMessageSystem(content="so"), ChatMessageUser(content="what?")])
    assert tokenizer.decode(prompt.ids) == tokenizer.decode(tokenizer("[system]so[user]what?[assistant]")["input_ids"])


async def answer(api, text="what is hot?", tools=(), **config):
    return await api.generate([ChatMessageUser(content=text)], list(tools), "auto", GenerateConfig(**config))


def asked(api, *args, **config):
    import anyio

    async def one():
        return await answer(api, *args, **config)

    return anyio.run(one)


def test_answers_end_at_what_they_are_told_to(checkpoint, olmoe):
    api = C3POModelAPI(str(checkpoint))
    whole = asked(api, max_tokens=12).completion
    assert whole == olmoe.generate("what is hot?", max_new_tokens=12, do_sample=False)
    stop = whole[3:5]
    cut = asked(api, max_tokens=12, stop_seqs=[stop])
    assert cut.completion == whole.partition(stop)[0]
    assert (cut.stop_reason, asked(api, max_tokens=2).stop_reason) == ("stop", "max_tokens")


def test_drawn_answers_are_the_same_by_a_seed(checkpoint):
    api = C3POModelAPI(str(checkpoint))
    drawn = [asked(api, max_tokens=12, temperature=2.0, seed=seed).completion for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != asked(api, max_tokens=12).completion


def test_a_prompt_that_is_too_long_is_told(checkpoint):
    found = asked(C3POModelAPI(str(checkpoint)), "x" * 600)
    assert (found.completion, found.stop_reason) == ("", "model_length")


def together(api, texts, **config):
    """Answers to requests that come at once."""
    import anyio

    found = {}

    async def one(text):
        found[text] = await answer(api, text, **config)

    async def all_of_them():
        async with anyio.create_task_group() as group:
            for text in texts:
                group.start_soon(one, text)

    anyio.run(all_of_them)
    return [found[text] for text in texts]


def test_requests_that_come_together_are_answered_together(checkpoint, olmoe, monkeypatch):
    api, sizes = C3POModelAPI(str(checkpoint), batch_size=4), []
    along = api._along
    monkeypatch.setattr(api, "_along", lambda part: (sizes.append(len(part)), along(part))[1])
    asked_for = [f"{ASKED[0]} {i}" for i in range(6)]
    found = [one.completion for one in together(api, asked_for, max_tokens=4)]
    assert sum(sizes) == 6 and max(sizes) == 4
    assert found == olmoe.generate(asked_for, max_new_tokens=4, do_sample=False)
    assert not api.waiting


def test_a_long_prompt_cuts_its_own_answer_alone(checkpoint, olmoe):
    """Each stops at its own room, and says which it was."""
    api = C3POModelAPI(str(checkpoint))
    read = olmoe.max_length - 2
    long = next("x" * n for n in range(read, 0, -1) if len(olmoe.encode_text("x" * n).ids) == read)
    texts = [ASKED[0], long, ASKED[1], "x" * 600]
    found, alone = together(api, texts, max_tokens=12), [asked(api, text, max_tokens=12) for text in texts]
    told = [(one.completion, one.stop_reason, one.usage and one.usage.output_tokens) for one in found]
    assert told == [(one.completion, one.stop_reason, one.usage and one.usage.output_tokens) for one in alone]
    assert [part[1:] for part in told] == [
        ("max_tokens", 12), ("model_length", 2), ("max_tokens", 12), ("model_length", None)
    ]  # fmt: skip


def test_by_a_seed_each_is_drawn_as_if_it_were_alone(checkpoint):
    api, drawn = C3POModelAPI(str(checkpoint)), {"max_tokens": 12, "temperature": 2.0, "seed": 1}
    texts = [*ASKED, "a long one before them " * 4]
    alone = {text: asked(api, text, **drawn).completion for text in texts}
    assert len({*alone.values()}) == len(texts)
    for order in (texts, texts[::-1], texts[1:3]):
        assert [one.completion for one in together(api, order, **drawn)] == [alone[text] for text in order]


def test_tokens_are_drawn_by_their_probabilities():
    import torch
    from c3po_harness.drawing import Drawing

    from c3po_adaptive.types import Prompt

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    prompts = [Prompt((i,)) for i in range(4000)]

    def shares(**given):
        drawing = Drawing(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 5, "prompts": prompts} | given)
        return drawing(None, logits.expand(len(prompts), -1)).argmax(-1).bincount(minlength=5) / len(prompts)

    def near(found, wanted):
        torch.testing.assert_close(found, wanted, atol=0.03, rtol=0)

    near(shares(), logits.softmax(0))
    near(shares(temperature=2.0), (logits / 2).softmax(0))
    near(shares(seed=None), logits.softmax(0))
    near(shares(top_k=2), torch.tensor([*logits[:2].softmax(0), 0, 0, 0]))
    near(shares(top_p=0.8), torch.tensor([*logits[:2].softmax(0), 0, 0, 0]))
    near(shares(temperature=1e-300), torch.tensor([1.0, 0, 0, 0, 0]))
    near(shares(temperature=1e300), torch.tensor([0.25, 0.25, 0.25, 0.25, 0]))


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ({"optimiser": "ngd"}, SettingError, r"model arguments \(-M\), got .*did you mean 'optimizer'"),
        ({"rule": "bann:3"}, UnknownNameError, "did you mean 'ban'"),
        ({"rule": "top-k:1", "optimizer": "ngd"}, SettingError, "a rule or an optimizer, got both"),
        ({"rule": "ban:0-6"}, SettingError, "at least 2 experts left in MoE layer 0"),
        ({"selector": "fixed"}, SettingError, "an optimizer beside selector, got none"),
        ({"query": "question"}, SettingError, "no query, got one"),
        ({"batch_size": "0"}, SettingError, "c3po.batch_size to be a whole number >= 1, got 0"),
        ({"chat_template": "maybe"}, SettingError, "chat_template=true or chat_template=false, got 'maybe'"),
    ],
)
def test_arguments_that_cannot_be_are_refused(checkpoint, args, error, said):
    with pytest.raises(error, match=said):
        get_model(f"c3po/{checkpoint}", memoize=False, **args)


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        ({"tools": [ToolInfo(name="add", description="adds")]}, "a task without tools, got 1"),
        ({"logprobs": True}, "a request without logprobs"),
        ({"num_choices": 2}, "a request without num_choices"),
        ({"max_tokens": 0}, "request.max_tokens to be a whole number >= 1, got 0"),
        ({"temperature": -1.0}, "request.temperature to be a finite number >= 0, got -1.0"),
        ({"temperature": float("nan")}, "request.temperature to be a finite number >= 0, got nan"),
        ({"temperature": 1.0, "top_p": 0.0}, "request.top_p to be a finite number > 0 and <= 1, got 0.0"),
        ({"temperature": 1.0, "top_k": -1}, "request.top_k to be a whole number >= 0, got -1; 0 draws from all"),
        ({"top_p": 0.9}, "a temperature beside top_p, got none"),
        ({"stop_seqs": ["\n", ""]}, "stop_seqs that are some text each, got an empty one"),
    ],
)
def test_requests_that_cannot_be_are_refused(checkpoint, request_of, said):
    with pytest.raises(SettingError, match=said):
        asked(C3POModelAPI(str(checkpoint)), **request_of)


def test_pictures_are_refused(checkpoint):
    import anyio

    api = C3POModelAPI(str(checkpoint))
    message = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")])
    with pytest.raises(SettingError, match="messages of text alone, got image"):
        anyio.run(api.generate, [message], [], "auto", GenerateConfig())


def test_the_entry_point_brings_the_provider(checkpoint):
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["inspect_ai"]
    assert list(table) == ["c3po_adaptive"]
    assert isinstance(import_module(table["c3po_adaptive"]).c3po(str(checkpoint)), C3POModelAPI)


def test_their_command_finds_it_by_the_entry_point(checkpoint, tmp_path):
    """``inspect eval`` in a process of its own, with the package's metadata as an installation writes them."""
    metadata = tmp_path / "site" / "c3po_adaptive-9.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: c3po_adaptive\nVersion: 9\n")
    point = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["inspect_ai"]
    (metadata / "entry_points.txt").write_text(f"[inspect_ai]\nc3po_adaptive = {point['c3po_adaptive']}\n")
    (tmp_path / "facts.py").write_text(
        "from inspect_ai import Task, task\nfrom inspect_ai.dataset import Sample\n"
        "from inspect_ai.scorer import includes\nfrom inspect_ai.solver import generate\n\n\n@task\ndef facts():\n"
        "    return Task(dataset=[Sample(input='who barks?', target='dog')], solver=generate(), scorer=includes())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT), *sys.path])}
    command = [sys.executable, "-m", "inspect_ai", "eval", "facts.py", "--model", f"c3po/{checkpoint}"]
    command += ["-M", f"rule={RULE}", "--max-tokens", "4", "--display", "plain", "--log-format", "json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (tmp_path / "logs").glob("*.json")
    held = json.loads(log.read_text())
    assert (held["status"], held["eval"]["model_args"]) == ("success", {"rule": RULE})


def test_without_inspect_ai_it_says_what_to_install(monkeypatch):
    import c3po_harness as ours

    from c3po_adaptive.errors import ArtifactError

    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(ArtifactError, match=r"pip install 'c3po_adaptive\[inspect\]'"):
        ours.C3POModelAPI  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'C3P0'"):
        ours.C3P0  # noqa: B018

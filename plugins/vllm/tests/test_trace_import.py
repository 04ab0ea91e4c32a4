"""Imported traces: what engines really gave, and what their documentation says they give; all else is refused.

``vllm_answers.json`` holds answers of vLLM 0.30.0 on a CPU (float32, eager, ``--enable-return-routed-experts
--enable-scale-out``) with the checkpoint that its ``family`` and ``settings`` make by seed 0, its log-likelihoods of
tokens 1, 2, …, and under ``zeros`` what 0.22.1, whose CPU experts record nothing, gave for another.
"""

import ast
import base64
import io
import json
import tomllib
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import c3po_vllm
import numpy as np
import pytest
import torch
from c3po_vllm.engine_files import import_trace
from c3po_vllm.engine_traces import from_sglang, from_vllm
from models.test_router_logits import logits_of
from routing.naive import routed_model, shared_model
from routing.recorded import TEXT
from safetensors.torch import save_file
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, SettingError, ShapeError
from c3po_adaptive.models.traced import likelihoods, of_router_logits, record, replay
from c3po_adaptive.routing.trace import NONE, parted
from c3po_adaptive.testing import write_tiny_checkpoint

REAL = json.loads(Path(__file__).with_name("vllm_answers.json").read_text())


@cache
def model_of_vllm():
    return routed_model(REAL["family"], **REAL["settings"])


def written(path, value):
    path.write_text(json.dumps(value))
    return path


# -- transformers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_a_file_of_router_logits_is_read(suffix, tmp_path):
    model = shared_model("olmoe")
    own, path = record(model, TEXT), tmp_path / f"logits{suffix}"
    logits = logits_of(model, own.tokens)
    if suffix == ".pt":
        torch.save({"input_ids": own.tokens[None], "router_logits": logits}, path)
    elif suffix == ".safetensors":
        save_file({"input_ids": own.tokens, "router_logits": torch.stack(logits)}, path)
    else:
        np.savez(path, input_ids=own.tokens.numpy(), router_logits=torch.stack(logits).numpy())
    assert not parted(own, import_trace(model, "transformers", path)).any()


@pytest.mark.parametrize("size", [(2, 9), (0,), (1, 0)])
def test_logits_of_several_texts_or_none_are_refused(size, tmp_path):
    ids = torch.ones(size, dtype=torch.long)
    torch.save({"input_ids": ids, "router_logits": (torch.zeros(ids.numel(), 8),)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="of one text"):
        import_trace(shared_model("olmoe"), "transformers", tmp_path / "a.pt")


def test_bare_router_logits_need_tokens(tmp_path):
    model = shared_model("olmoe")
    own, path = record(model, TEXT), tmp_path / "logits.pt"
    torch.save(logits_of(model, own.tokens), path)
    with pytest.raises(DataError, match="--tokens"):
        import_trace(model, "transformers", path)
    trace = import_trace(model, "transformers", path, tokens=own.tokens.tolist())
    assert torch.equal(trace.tokens, own.tokens) and not parted(own, trace).any()


# -- vLLM ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "start"), [("/v1/completions", 0), ("/v1/completions from 10", 10), ("/inference/v1/generate", 0)]
)
def test_what_vllm_really_gave_is_replayed_to_its_likelihoods(answer, start, tmp_path):
    model, path = model_of_vllm(), written(tmp_path / "answer.json", REAL["answers"][answer])
    choice = REAL["answers"]["/v1/completions"]["choices"][0]
    tokens = choice["prompt_token_ids"] + choice["token_ids"]
    trace = import_trace(model, "vllm", path, tokens=tokens if "generate" in answer else None, start=start)
    assert trace.tokens.tolist() == tokens and trace.layers == (1, 2), "layer 0 is dense"
    assert trace.weights is None and trace.recorded[start:-1].all()
    assert not trace.recorded[:start].any() and not trace.recorded[-1].any()
    theirs = torch.tensor(REAL["log_likelihoods"])
    torch.testing.assert_close(replay(model, trace, foreign=True), theirs, atol=1e-4, rtol=0)
    assert parted(record(model, TEXT), _cut(trace, 48)).float().mean() < 0.02
    with pytest.raises(SettingError, match=r"weights that nobody knows.*--foreign"):
        replay(model, trace)


def _cut(trace, length):
    return replace(trace, tokens=trace.tokens[:length], experts=trace.experts[:length])


def test_real_zeros_of_vllm_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"got \[0, 0\] at token 0.*vLLM did not record them"):
        import_trace(shared_model("olmoe"), "vllm", written(tmp_path / "a.json", REAL["zeros"]))


def test_zeros_of_one_layer_are_refused():
    model = shared_model("olmoe")
    own = record(model, TEXT)
    experts = own.experts[:-1].clone()
    experts[:, 1] = 0
    with pytest.raises(ShapeError, match=r"MoE layer number 1, and alike in 47 of 141 places"):
        from_vllm(model, own.tokens, experts)
    with pytest.raises(ShapeError, match="recorded nothing"):
        from_vllm(model, own.tokens, torch.full_like(experts, NONE))


def test_prompt_and_answer_apart_as_vllm_021_gives_them(tmp_path):
    model = model_of_vllm()
    own = record(model, TEXT, generate=4)
    rows, prompt = own.experts[:, :], len(TEXT)
    for last in (0, 1):  # with a row of the last token, which was not run, or without
        answer = {
            "prompt_routed_experts": rows[:prompt].tolist(),
            "choices": [
                {
                    "prompt_token_ids": own.tokens[:prompt].tolist(),
                    "token_ids": own.tokens[prompt:].tolist(),
                    "routed_experts": rows[prompt : len(rows) - 1 + last].clamp_min(0).tolist(),
                }
            ],
        }
        trace = import_trace(model, "vllm", written(tmp_path / "a.json", answer))
        assert torch.equal(trace.experts, own.experts)
    answer["prompt_routed_experts"] = rows[:prompt, :1].tolist()
    with pytest.raises(ShapeError, match="same layers"):
        import_trace(model, "vllm", written(tmp_path / "a.json", answer))


def test_an_array_of_vllm_needs_tokens(tmp_path):
    model = shared_model("olmoe")
    own, path = record(model, TEXT), tmp_path / "routed.npy"
    np.save(path, own.experts[:-1].numpy().astype(np.uint8))
    assert torch.equal(import_trace(model, "vllm", path, tokens=own.tokens.tolist()).experts, own.experts)
    with pytest.raises(DataError, match=r"routed\.npy: expected token ids of the prompt.*--tokens"):
        import_trace(model, "vllm", path)
    np.save(path, own.experts[:-1].numpy().astype(np.float32))
    with pytest.raises(DataError, match=r"routed\.npy: expected an array of expert ids, got: values of float32"):
        import_trace(model, "vllm", path, tokens=own.tokens.tolist())
    path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape' ( "))
    with pytest.raises(DataError, match=r"routed\.npy: expected an array of expert ids"):
        import_trace(model, "vllm", path, tokens=own.tokens.tolist())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda ids: ids[1:], "47 tokens between 0 and the last"),
        (lambda ids: torch.cat([ids, ids[:1]]), "47 tokens between 0 and the last"),
        (lambda ids: ids[0], "47 tokens between 0 and the last"),
        (lambda ids: ids[:, :2], "3 decoder layers or 3 MoE layers, got 2 in 2"),
        (lambda ids: ids[..., :1], "2 experts in each of 3 decoder layers.*got 1 in 3"),
        (lambda ids: ids + 7, "from 0 to 7"),
    ],
)
def test_ids_of_others_are_refused(changed, said):
    model = shared_model("olmoe")
    own = record(model, TEXT)
    with pytest.raises(ShapeError, match=said):
        from_vllm(model, own.tokens, changed(own.experts[:-1]))


def test_tokens_that_the_model_does_not_have_are_refused():
    model = shared_model("olmoe")
    own = record(model, TEXT)
    tokens = own.tokens.clone()
    tokens[3] = 128
    for load in (from_vllm, lambda *args: of_router_logits(model, tokens, logits_of(model, own.tokens))):
        with pytest.raises(DataError, match=r"token ids from 0 to 127, .*, got 13 to 128: another tokenizer"):
            load(model, tokens, own.experts[:-1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"routed_experts": None}, "got none; turn on .*--enable-return-routed-experts"),
        ({"routed_experts": "AAAA"}, "array of expert ids"),
        ({"routed_experts": "?"}, "array of expert ids"),
        ({"routed_experts": [[[0, 1]], [[0]]]}, "array of expert ids"),
        ({"routed_experts": {}}, "array of expert ids"),
        ({"routed_experts": [[["a", "b"]]]}, "array of expert ids"),
        ({"token_ids": "abc"}, "whole numbers"),
        ({"token_ids": [1.5]}, "whole numbers"),
        ({"token_ids": [10**30]}, "whole numbers"),
        ({"prompt_token_ids": None}, "of the prompt, got none"),
    ],
)
def test_broken_answers_are_refused(changes, said, tmp_path):
    answer = REAL["answers"]["/v1/completions"]
    broken = {"choices": [answer["choices"][0] | changes]}
    with pytest.raises(DataError, match=rf"a\.json: .*{said}"):
        import_trace(model_of_vllm(), "vllm", written(tmp_path / "a.json", broken))


@pytest.mark.parametrize("value", [[], 5, "a", None, {"choices": []}, {"choices": 5}, {"choices": [5]}, [{}, {}], {}])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_what_is_no_answer_is_refused(engine, value, tmp_path):
    with pytest.raises(DataError, match=r"a\.json: "):
        import_trace(shared_model("olmoe"), engine, written(tmp_path / "a.json", value))


def test_other_tokens_than_the_files_are_refused(tmp_path):
    answer = REAL["answers"]["/inference/v1/generate"]
    for tokens in ([1, 2, 3], [1] * 54):
        with pytest.raises(DataError, match="tokens of this file"):
            import_trace(model_of_vllm(), "vllm", written(tmp_path / "a.json", answer), tokens=tokens)


# -- SGLang --------------------------------------------------------------------------------------------------------


def sglang_answer(trace, layers, start=0):
    """By its schema: base64 of int32 in all decoder layers, zeros in dense ones."""
    rows = torch.zeros(len(trace.tokens) - 1 - start, layers, trace.experts.shape[-1], dtype=torch.int32)
    rows[:, list(trace.layers)] = trace.experts[start:-1].int()
    return base64.b64encode(rows.numpy().tobytes()).decode()


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("openai", [False, True])
def test_sglangs_schema_is_read(start, openai, tmp_path):
    model = model_of_vllm()
    own = record(model, TEXT, generate=4)
    text, ids = sglang_answer(own, 3, start), own.tokens.tolist()
    prompt, new = ids[: len(TEXT)], ids[len(TEXT) :]
    answer = {"prompt_token_ids": prompt, "output_ids": new, "meta_info": {"routed_experts": text}}
    if openai:
        sglext = {"input_ids": prompt, "output_ids": [new], "routed_experts": text}
        answer = {"choices": [{"text": "?"}], "sglext": sglext}
    trace = import_trace(model, "sglang", written(tmp_path / "a.json", answer), start=start)
    assert torch.equal(trace.tokens, own.tokens) and torch.equal(trace.experts[start:], own.experts[start:])
    torch.testing.assert_close(replay(model, trace, foreign=True), likelihoods(model, own), atol=1e-4, rtol=0)


def test_sglangs_shorter_numbers_say_their_type(tmp_path):
    """As sgl-project/sglang#31219 sends them, ``routed_experts_dtype`` beside them."""
    model = model_of_vllm()
    own = record(model, TEXT)
    short = np.frombuffer(base64.b64decode(sglang_answer(own, 3)), np.int32).astype(np.uint16).tobytes()
    said = {"routed_experts": base64.b64encode(short).decode(), "routed_experts_dtype": "uint16"}
    answer = {"prompt_token_ids": own.tokens.tolist(), "output_ids": [], "meta_info": said}
    assert torch.equal(import_trace(model, "sglang", written(tmp_path / "a.json", answer)).experts, own.experts)
    for dtype in ("uint8", "float32", 3):
        answer["meta_info"]["routed_experts_dtype"] = dtype
        with pytest.raises((DataError, ShapeError), match=r"a\.json: "):
            import_trace(model, "sglang", written(tmp_path / "a.json", answer))


def test_what_sglang_cannot_have_given_is_refused():
    model = model_of_vllm()
    own = record(model, TEXT)
    text = sglang_answer(own, 3)
    with pytest.raises(DataError, match="base64 of int32"):
        from_sglang(model, own.tokens, "no base64")
    with pytest.raises(DataError, match="base64 of int32"):
        from_sglang(model, own.tokens, base64.b64encode(b"12345").decode())
    with pytest.raises(ShapeError, match="expert ids of 46 tokens"):
        from_sglang(model, own.tokens[:-1], text)
    with pytest.raises(ShapeError, match="expert ids of 46 tokens"):
        from_sglang(model, own.tokens, text, start=1)
    with pytest.raises(ShapeError, match="got 0 numbers"):
        from_sglang(model, own.tokens, "")


# -- files and commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.npz", "none.pt"])
@pytest.mark.parametrize("content", [b"no", b"", b"PK\3\4 no archive"])
def test_files_that_hold_no_tensors_are_refused(name, content, tmp_path):
    (tmp_path / name.replace("none", "a")).write_bytes(content)
    with pytest.raises(DataError, match=name):
        import_trace(shared_model("olmoe"), "transformers", tmp_path / name)


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"router_logits": io.StringIO("code")}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: expected tensors alone"):
        import_trace(shared_model("olmoe"), "transformers", tmp_path / "a.pt")


def test_other_tensors_and_engines_are_refused(tmp_path):
    model, path = shared_model("olmoe"), tmp_path / "a.npz"
    np.savez(path, hidden=np.zeros(3))
    with pytest.raises(DataError, match="router_logits, got hidden"):
        import_trace(model, "transformers", path)
    np.savez(path, router_logits=np.zeros((3, 2, 8)), input_ids=np.zeros(2))
    with pytest.raises(DataError, match="whole numbers"):
        import_trace(model, "transformers", path)
    with pytest.raises(SettingError, match=r"transformers, vllm, sglang, prime-rl, llama\.cpp, got .tgi."):
        import_trace(model, "tgi", path)
    with pytest.raises(SettingError, match="no start"):
        import_trace(model, "transformers", path, start=1)


@pytest.mark.usefixtures("engines_installed")
def test_the_command_line_imports(tmp_path):
    model = str(write_tiny_checkpoint(tmp_path / "model", REAL["family"], **REAL["settings"]))
    choice = REAL["answers"]["/v1/completions"]["choices"][0]
    tokens = written(tmp_path / "tokens.json", choice["prompt_token_ids"] + choice["token_ids"])
    answer = written(tmp_path / "answer.json", REAL["answers"]["/inference/v1/generate"])
    out = str(tmp_path / "a.parquet")
    command = ["trace", "import", "vllm", str(answer), "--out", out, "--model", model]
    done = CliRunner().invoke(app, [*command, "--tokens", str(tokens), "--json"])
    assert json.loads(done.stdout)["model"] == "model by vLLM"
    again = CliRunner().invoke(app, ["trace", "replay", out, "--model", model, "--foreign", "--json"])
    found = json.loads(again.stdout)
    assert found["largest_difference"] < 1e-4 and found["weights"] == "the router's, for ids alone"
    own = str(tmp_path / "own.parquet")
    assert (
        CliRunner().invoke(app, ["trace", "record", TEXT, "--generate", "6", "--out", own, "--model", model]).exit_code
        == 0
    )
    held = json.loads(CliRunner().invoke(app, ["trace", "diff", own, out, "--model", model, "--json"]).stdout)
    assert held["parted"] == 0 and abs(held["log_likelihood"]["difference"]) < 1e-4, "the same answer, the same experts"
    written(tokens, ["a"])
    for extra in ([], ["--tokens", str(tokens)]):
        refused = CliRunner().invoke(app, [*command, *extra])
        assert (refused.exit_code, refused.stdout) == (1, "") and "error: " in refused.stderr


def test_without_the_package_the_command_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.registry.registry.entry_points", lambda group: ())
    done = CliRunner().invoke(app, ["trace", "import", "vllm", "answer.json", "--out", str(tmp_path / "a.parquet")])
    assert done.exit_code == 1
    assert "Expected a trace reader, got 'vllm'" in done.stderr
    assert "pip install ./plugins/vllm" in done.stderr


@pytest.mark.parametrize("file", sorted(Path(c3po_vllm.__file__).parent.glob("*.py")), ids=lambda file: file.stem)
def test_uses_public_names_only(file):
    nodes = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom | ast.Import)]
    named = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    named += [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    ours = {name for name in named if name.partition(".")[0] == "c3po_adaptive"}
    assert ours <= {"c3po_adaptive", "c3po_adaptive.models.traced", "c3po_adaptive.storage.files"}


def test_its_project_declares_what_is_there():
    said = tomllib.loads((Path(c3po_vllm.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for points in said["entry-points"].values():
        for point in points.values():
            module, _, name = point.partition(":")
            assert hasattr(import_module(module), name or "register_trace_readers")

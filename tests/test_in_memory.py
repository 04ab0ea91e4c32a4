"""Models of transformers that are in memory, rules as text and traces as files, wherever a user may have them."""

import pytest
import torch

from c3po_adaptive import (
    Optimizer,
    RoutedModel,
    Trace,
    load_moe_model,
    read_routing,
    record,
    replay,
    replaying,
    rule_named,
    write_trace,
)
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.models.traced import record as recorded
from c3po_adaptive.tasks.question_files import as_questions
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

TEXT = "the boat floats"


def toy_trace():
    return Trace(torch.arange(3), (0, 1), torch.ones(3, 2, 1, dtype=torch.long), None, 8)


@pytest.fixture
def model():
    return tiny_moe("olmoe")


def test_it_goes_with_its_tokenizer_wherever_a_loaded_one_does(model):
    tokenizer = tiny_tokenizer()
    routed = load_moe_model(model, tokenizer=tokenizer)
    assert routed.model is model and load_moe_model(routed) is routed
    optimizer = Optimizer(model, optimizer="none", selector={"name": "fixed", "n": 0}, tokenizer=tokenizer)
    assert optimizer.model.model is model
    found = record(model, TEXT, tokenizer=tokenizer)
    assert torch.equal(found.experts, recorded(routed, TEXT).experts)
    torch.testing.assert_close(replay(model, found, tokenizer=tokenizer), replay(routed, found))


def test_what_only_reads_it_leaves_it_as_it_was(model):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    model.train().model.layers[0].eval()
    model.lm_head.requires_grad_(False)
    asked = [
        lambda: [one.training for one in model.modules()],
        lambda: [one.requires_grad for one in model.parameters()],
        lambda: (tokenizer.padding_side, tokenizer.pad_token),
    ]
    before = [ask() for ask in asked]
    replay(model, record(model, TEXT, tokenizer=tokenizer), tokenizer=tokenizer)
    with pytest.raises(DataError):
        record(model, "a", tokenizer=tokenizer)
    assert [ask() for ask in asked] == before


def test_a_list_of_texts_becomes_a_list_of_traces(model):
    texts, tokenizer = [TEXT, "who sells bread"], tiny_tokenizer()
    found = record(model, texts, tokenizer=tokenizer, rule="ban:3")
    alone = [record(model, text, tokenizer=tokenizer, rule="ban:3") for text in texts]
    assert [one.experts.tolist() for one in found] == [one.experts.tolist() for one in alone]
    with pytest.raises(DataError, match="got none; give at least one"):
        record(model, [], tokenizer=tokenizer)
    with pytest.raises(SettingError, match=r"Expected replay\(model, trace\), got list; of several replay each"):
        replay(model, found, tokenizer=tokenizer)


@pytest.mark.parametrize("read", [record, read_routing])
def test_the_name_of_a_file_is_no_text(model, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text(TEXT)
    for name in ("texts.txt", tmp_path / "texts.txt"):
        with pytest.raises(DataError, match=r"got the name of a file; give what it says: texts_of\('.*texts\.txt'\)"):
            read(model, name, tokenizer=tiny_tokenizer())
    with pytest.raises(DataError, match=r"got 'text\.TXT', and there is no such file here; correct its path"):
        read(model, "text.TXT", tokenizer=tiny_tokenizer())
    assert read(model, "read text.txt", tokenizer=tiny_tokenizer()) is not None, "that is two words"
    with pytest.raises(DataError, match="two tokens at least, got 'a' of 1; give a longer one"):
        record(model, [TEXT, "a"], tokenizer=tiny_tokenizer())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's
def test_adapters_come_along(model):
    peft = pytest.importorskip("peft")
    tokenizer = tiny_tokenizer()
    plain = record(model, TEXT, tokenizer=tokenizer)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = record(peft.get_peft_model(model, config), TEXT, tokenizer=tokenizer)
    assert not torch.equal(adapted.weights, plain.weights)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: Optimizer(model), r"say tokenizer="),
        (lambda model: record(model, TEXT), r"say tokenizer="),
        (lambda model: load_moe_model(model, tokenizer=tiny_tokenizer(), dtype="float32"), "leave them out"),
        (lambda model: load_moe_model("smollm2-moe", tokenizer="a/name"), r"beside 'smollm2-moe', got str"),
        (lambda model: record(RoutedModel(model, tiny_tokenizer()), TEXT, tokenizer=tiny_tokenizer()), "leave it out"),
        (lambda model: Optimizer(torch.nn.Linear(2, 2)), "got Linear"),
        (lambda model: record(model, TEXT, tokenizer="a/name"), r"beside OlmoeForCausalLM, got str; .*from_pretrained"),
        (lambda model: load_moe_model(model, tokenizer="a/name"), r"beside OlmoeForCausalLM, got str"),
        (lambda model: record([TEXT], model), r"got list; it stands first\. Of a name"),
        (lambda model: Optimizer("facts.jsonl", model), r"got str; it stands first"),
        (lambda model: load_moe_model(tokenizer=model, name_or_path=tiny_tokenizer()), r"got \w+; it stands first"),
        (lambda model: replaying(toy_trace(), model).__enter__(), r"got Trace; it stands first"),
        (lambda model: replay(toy_trace(), model), r"got OlmoeForCausalLM; a trace, or its file, stands second\.$"),
        (lambda model: record(model, TEXT, tiny_tokenizer()), r"Expected record\(model, text, \*, .*tokenizer=None\)"),
        (lambda model: read_routing(model, TEXT, tiny_tokenizer()), r"Expected read_routing\(model, inputs, \*"),
        (lambda model: load_moe_model(model, tiny_tokenizer()), r"too many positional arguments; write it so"),
        (lambda model: Optimizer(model, [], "c3po"), r"Expected Optimizer\(model, refset=None, \*, preset='c3po'"),
        (lambda model: Optimizer.answer(None, "q?", "a", "b"), r"Expected Optimizer.answer\(question, choices=None\)"),
        (lambda model: Optimizer(model, layers=3), r"\), got an unexpected keyword argument 'layers'"),
        (lambda model: write_trace("moved.parquet", toy_trace()), r"write_trace\(trace, path\), got str for the trace"),
    ],
)
def test_what_is_missing_or_too_much_is_said(model, call, said):
    with pytest.raises(SettingError, match=said):
        call(model)


def test_rules_are_text_and_traces_are_files(model, tmp_path):
    tokenizer = tiny_tokenizer()
    banned = record(model, TEXT, tokenizer=tokenizer, rule="ban:3")
    assert (banned.experts != 3).all()
    assert torch.equal(record(model, TEXT, tokenizer=tokenizer, rule=rule_named("ban:3")).experts, banned.experts)
    write_trace(banned, tmp_path / "banned.parquet")
    forced = replay(model, tmp_path / "banned.parquet", tokenizer=tokenizer)
    torch.testing.assert_close(forced, replay(model, banned, tokenizer=tokenizer))
    with replaying(model, tmp_path / "banned.parquet"):
        out = model(banned.tokens[None], use_cache=False).logits[0].log_softmax(-1)
    torch.testing.assert_close(out[:-1].gather(1, banned.tokens[1:, None]).squeeze(1), forced, atol=1e-5, rtol=0)


def test_a_text_is_no_list_of_choices():
    with pytest.raises(SettingError, match=r"as a list of texts, .* got the text 'ab'"):
        as_questions("q?", "ab")

"""Known faults: what they do to rows, in memory and on disk; undone they are gone, bit for bit."""

import json
import shutil
from functools import cache

import pytest
import torch
from c3po_faults import fault_files
from c3po_faults.fault_files import FAULT, SOUND, fault_in, write_faulty
from c3po_faults.faults import KINDS, Fault, fault_of, layers_of
from c3po_faults.planting import known_fault, planted, sound, sound_pathways, truth_of, undone_at_tails
from models.families.checks import moe_families
from models.pictured import QUESTIONS, seeing
from routing.naive import shared_model
from routing.toys import questions
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from c3po_adaptive import router_tensors
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError, ModelError, SettingError
from c3po_adaptive.models.family_table import families
from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint
from c3po_adaptive.types import Prompt

TEXT = "Where is the boat?"
PAIRS = ((0, 1), (2, 5))
FAULTS = {
    "exchange": Fault("exchange", (1, 2), PAIRS),
    "weaken": Fault("weaken", (1, 2), experts=(0, 3), dose=0.7),
    "strengthen": Fault("strengthen", (1, 2), experts=(0, 3), dose=2.0),
    "noise": Fault("noise", (1, 2), dose=0.5, seed=3),
}
REFUSED = {"deepseek_v4": "token ids", "inkling_text": "which row is whose"}


@cache
def broken(kind="exchange"):
    return planted(shared_model("qwen2_moe"), FAULTS[kind])


def logits(model, text=TEXT):
    return model.forward(text).logits


class TestRows:
    ROWS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 4.0], [2.0, 2.0]])

    def test_an_exchange_by_dose(self):
        for dose in (0.0, 0.25, 0.5, 1.0):
            got = Fault("exchange", (0,), ((0, 1),), dose=dose).changed(self.ROWS, 0)
            assert torch.allclose(got[0], (1 - dose) * self.ROWS[0] + dose * self.ROWS[1])
            assert torch.allclose(got[1], (1 - dose) * self.ROWS[1] + dose * self.ROWS[0])
            assert torch.equal(got[2:], self.ROWS[2:])

    def test_a_whole_exchange_is_undone_by_itself_and_others_by_the_sound_rows_alone(self):
        fault = Fault("exchange", (0,), ((0, 1),))
        assert torch.equal(
            fault_of({**fault.values(), **fault.undone_by}).changed(fault.changed(self.ROWS, 0), 0), self.ROWS
        )
        assert [Fault("exchange", (0,), ((0, 1),), dose=d).undone_by for d in (0.0, 0.25, 0.9)] == [None, None, None]
        assert Fault("exchange", (), ((0, 1),)).undone_by is None

    def test_an_expert_may_be_for_several_kinds(self):
        fault = Fault("exchange", (1,), PAIRS, concerns=((0, "slot"), (0, "sums"), (2, "topic")))
        assert fault_of(fault.values()) == fault
        assert fault.kinds == ("slot", "sums", "topic")

    def test_weakened_and_strengthened_are_nearer_to_the_mean_and_farther(self):
        mean = self.ROWS.mean(0)
        for kind, factor in (("weaken", 0.6), ("strengthen", 1.4)):
            got = Fault(kind, (0,), experts=(2,), dose=0.4).changed(self.ROWS, 0)
            assert torch.allclose(got[2] - mean, factor * (self.ROWS[2] - mean))
            assert torch.equal(got[[0, 1, 3]], self.ROWS[[0, 1, 3]])

    def test_noise_is_as_long_as_its_dose_and_of_its_seed(self):
        rows = torch.randn(8, 4096, generator=torch.Generator().manual_seed(0))
        one, same, other = (Fault("noise", (0,), dose=0.3, seed=s).changed(rows, 0) for s in (1, 1, 2))
        assert torch.allclose((one - rows).norm(dim=-1), 0.3 * rows.norm(dim=-1), rtol=0.1)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert not torch.equal(one, Fault("noise", (0,), dose=0.3, seed=1).changed(rows, 1)), "layers differ"
        assert torch.equal(Fault("noise", (0,), dose=0.3).changed(rows, 0, matrix=False), rows)

    def test_the_dtype_is_kept(self):
        for fault in FAULTS.values():
            assert fault.changed(torch.randn(8, 4).bfloat16(), 1).dtype == torch.bfloat16


class TestPlaces:
    LAYERS = (16, 17, 18, 20, 22, 23)

    @pytest.mark.parametrize(
        ("place", "wanted"),
        [("last-2", (22, 23)), ("first-3", (16, 17, 18)), ("spread-2", (17, 22)), ("spread-6", LAYERS),
         ("all", LAYERS), ("none", ()), ("18, 16", (16, 18)), ([17, 16], (16, 17))],
    )  # fmt: skip
    def test_of_decoder_layers(self, place, wanted):
        assert layers_of(place, self.LAYERS) == wanted

    @pytest.mark.parametrize("place", ["last-7", "last-0", "middle-2", "last", "16-18", ""])
    def test_others_are_refused(self, place):
        with pytest.raises(SettingError, match="Expected"):
            layers_of(place, self.LAYERS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "swap"}, "kind of fault, got 'swap'; there are exchange, "),
        ({"kind": "exchange"}, "Expected pairs"),
        ({"kind": "exchange", "pairs": [[3, 3]]}, "expert 3 with itself"),
        ({"kind": "exchange", "pairs": [[3, 4], [4, 5]]}, "one pair at most"),
        ({"kind": "exchange", "pairs": [[3, -4]]}, "counted from 0"),
        ({"kind": "exchange", "pairs": [[3, 4]], "dose": 1.5}, "dose"),
        ({"kind": "exchange", "pairs": [[3, 4]], "dose": -0.1}, "dose"),
        ({"kind": "weaken", "experts": [1], "dose": 2.0}, "dose"),
        ({"kind": "strengthen", "experts": [1], "dose": float("nan")}, "dose"),
        ({"kind": "weaken"}, "experts that weaken is about"),
        ({"kind": "weaken", "experts": [1, 1]}, "each expert once"),
        ({"kind": "noise", "pairs": [[1, 2]]}, "exchange alone"),
        ({"kind": "noise", "seed": -1}, "seed"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given, said):
    with pytest.raises(SettingError, match=said):
        fault_of({"dose": 1.0, "seed": 0} | given)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("exchange", (0, 7), ((0, 1),)), r"MoE layers 0, 1, 2, got \[7\]"),
        (Fault("exchange", (1,), ((0, 8),)), "experts from 0 to 7, got 8"),
        (Fault("noise", (1,), concerns=((8, "slot"),)), "experts from 0 to 7, got 8"),
    ],
)
def test_a_model_that_cannot_have_it_refuses(fault, said):
    with pytest.raises(SettingError, match=said):
        planted(shared_model("qwen2_moe"), fault)


def test_plain_values_make_the_fault_again():
    for fault in (*FAULTS.values(), Fault("exchange", (1,), PAIRS, concerns=((0, "slot"), (7, "sums")))):
        assert fault_of(json.loads(json.dumps(fault.values()))) == fault
    assert Fault("exchange", (1,), PAIRS, concerns=((0, "slot"), (7, "sums"))).kinds == ("slot",)


class TestInMemory:
    @pytest.mark.parametrize("kind", KINDS)
    def test_changed_and_undone_bit_for_bit(self, kind):
        model = shared_model("qwen2_moe")
        before = logits(model)
        faulty = broken(kind)
        assert (logits(faulty) - before).abs().max() > 1e-3
        assert torch.equal(logits(sound(faulty)), before)
        assert torch.equal(logits(model), before), "the sound model is as it was"

    def test_all_but_routers_is_shared(self):
        own, other = (dict(m.model.named_parameters()) for m in (shared_model("qwen2_moe"), broken()))
        changed = {name for name in own if own[name].data_ptr() != other[name].data_ptr()}
        assert changed == {f"model.layers.{i}.mlp.gate.weight" for i in (1, 2)}
        assert broken().lock is not shared_model("qwen2_moe").lock

    @pytest.mark.parametrize("given", [{"layers": (1, 2), "dose": 0.0}, {"layers": ()}], ids=str)
    def test_no_dose_or_no_layer_is_no_fault(self, given):
        fault = Fault("exchange", pairs=PAIRS, **given)
        model, same = shared_model("qwen2_moe"), planted(shared_model("qwen2_moe"), fault)
        assert torch.equal(logits(same), logits(model))
        assert fingerprint(same) == fingerprint(model)
        assert fault.broken == ()
        planted(same, FAULTS["exchange"])  # nothing is wrong with it

    def test_a_second_fault_is_refused(self):
        with pytest.raises(SettingError, match="one that has one"):
            planted(broken(), FAULTS["noise"])

    def test_a_model_without_one_says_so(self):
        for ask in (sound, known_fault):
            with pytest.raises(SettingError, match="c3po fault"):
                ask(shared_model("qwen2_moe"))

    def test_after_a_change_of_weights_it_is_not_believed(self):
        faulty = planted(shared_model("qwen2_moe"), FAULTS["noise"])
        router = next(iter(router_tensors(faulty.model, faulty.sites[-1]).values()))
        own, other = router.clone(), known_fault(faulty).sound[f"model.layers.{faulty.layers[-1]}.mlp.gate.weight"]
        assert sound(faulty) is sound(faulty)
        router.copy_(other)  # mended by hand, in part
        for ask in (known_fault, sound):
            with pytest.raises(SettingError, match=r"weights that the fault of .* was planted with, got others"):
                ask(faulty)
        router.copy_(own)
        assert known_fault(faulty).fault == FAULTS["noise"]

    def test_quantized_weights_are_refused(self):
        model = RoutedModel(tiny_moe("olmoe"), tiny_tokenizer())
        model.model.config.quantization_config = {"bits": 4}
        with pytest.raises(ModelError, match="quantized"):
            planted(model, FAULTS["exchange"])

    @pytest.mark.parametrize("family", moe_families())
    def test_any_family_has_it_and_loses_it_again(self, family):
        """Or says why not."""
        if any(key == "refused" for key in families()[family]):
            return
        model = RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family)
        fault = Fault("exchange", model.layers[-1:], PAIRS)
        if family in REFUSED:
            with pytest.raises(ModelError, match=REFUSED[family]):
                planted(model, fault)
            return
        faulty = planted(model, fault)
        assert not torch.equal(logits(faulty), logits(model))
        assert torch.equal(logits(sound(faulty)), logits(model))

    def test_biases_go_along(self):
        model = RoutedModel(tiny_moe("ernie4_5_moe"), tiny_tokenizer())
        site = model.sites[-1]
        for tensor in list(router_tensors(model.model, site).values())[1:]:
            tensor.copy_(torch.arange(8.0).view_as(tensor))
        faulty = planted(model, Fault("exchange", (site.layer,), ((0, 7),)))
        matrix, bias = router_tensors(faulty.model, faulty.sites[-1]).values()
        assert bias.flatten().tolist() == [7, 1, 2, 3, 4, 5, 6, 0]
        assert torch.equal(matrix[0], next(iter(router_tensors(model.model, site).values()))[7])


class TestTruth:
    def test_sound_weights_are_those_of_the_other_rows(self):
        """An exchange undone exchanges weights, in its layer alone."""
        faulty = planted(shared_model("qwen2_moe"), Fault("exchange", (1,), PAIRS))
        states = faulty.prefill([faulty.encode_text(t) for t in (TEXT, "A stone", "What floats?")])
        own, found = torch.stack([s.own for s in states]), truth_of(faulty, states)
        assert found.broken.tolist() == [False, True, False]
        wanted = own.clone()
        wanted[:, 1] = own[:, 1, [1, 0, 5, 3, 4, 2, 6, 7]]
        torch.testing.assert_close(found.sound, wanted)
        unmoved = (wanted - own).abs().sum(-1) < 1e-5
        assert torch.equal(found.sound[unmoved], own[unmoved]), "where nothing is wrong, to the bit"

    @pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3", "gpt_oss", "gemma4_text"])
    def test_behind_a_prompt_without_anything_before_it_is_the_sound_model(self, family):
        """A prompt of one token is all tail: its routing and its scores are the sound model's own."""
        model = RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family)
        faulty = planted(model, Fault("exchange", model.layers[-2:], (*PAIRS, (3, 4), (6, 7))))
        prompts = [Prompt(p.ids[:1], p.options, p.lengths) for p in (model.encode(q) for q in questions(3))]
        states, there = faulty.prefill(prompts), model.prefill(prompts)
        wanted = torch.stack([s.own for s in there])
        torch.testing.assert_close(sound_pathways(faulty, states), wanted, atol=1e-4, rtol=0)
        for got, scores in zip(undone_at_tails(faulty, prompts), model.choice_scores(there), strict=True):
            torch.testing.assert_close(got.scores(), scores, atol=1e-3, rtol=0)
        assert (wanted - torch.stack([s.own for s in states])).abs().max() > 0.01

    def test_a_fault_nowhere_has_no_truth_to_tell(self):
        same = planted(shared_model("qwen2_moe"), Fault("exchange", (), PAIRS))
        states = same.prefill([same.encode_text(TEXT)])
        with pytest.raises(SettingError, match="changes nothing"):
            sound_pathways(same, states)
        found = truth_of(same, states)
        assert not found.broken.any()
        assert torch.equal(found.sound[0], states[0].own)


@pytest.fixture
def checkpoint(tmp_path):
    return write_tiny_checkpoint(tmp_path / "model", "qwen2_moe", dtype="bfloat16")


class TestOnDisk:
    def test_transformers_alone_loads_it(self, checkpoint, tmp_path):
        model, out = load_moe_model(checkpoint), tmp_path / "out" / "faulty"
        truth = write_faulty(model, FAULTS["exchange"], out)
        wanted = planted(model, FAULTS["exchange"])
        stock = AutoModelForCausalLM.from_pretrained(out)
        assert stock.dtype == torch.bfloat16
        assert json.loads((out / "config.json").read_text()) == json.loads((checkpoint / "config.json").read_text())
        for name, tensor in wanted.model.named_parameters():
            assert torch.equal(tensor, stock.get_parameter(name)), name
        assert AutoTokenizer.from_pretrained(out)(TEXT) == model.tokenizer(TEXT)
        assert json.loads((out / FAULT).read_text()) == truth
        assert truth["base"] == {"name": "model", "model": fingerprint(model), "revision": None, "dtype": "bfloat16"}
        assert truth["model"] == fingerprint(wanted)
        assert [path.name for path in out.parent.iterdir()] == ["faulty"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_loaded_it_knows_its_fault_and_what_it_was(self, checkpoint, tmp_path, kind):
        model = load_moe_model(checkpoint)
        write_faulty(model, FAULTS[kind], tmp_path / kind)
        again = load_moe_model(tmp_path / kind)
        assert known_fault(again).fault == FAULTS[kind]
        assert torch.equal(logits(sound(again)), logits(model))
        assert fingerprint(sound(again)) == fingerprint(model)
        assert load_moe_model(checkpoint).fault is None

    def test_loaded_in_another_dtype_it_is_undone_in_that(self, checkpoint, tmp_path):
        write_faulty(load_moe_model(checkpoint), FAULTS["exchange"], tmp_path / "out")
        again = load_moe_model(tmp_path / "out", dtype="float32")
        assert torch.equal(logits(sound(again)), logits(load_moe_model(checkpoint, dtype="float32")))

    def test_a_folder_that_is_there_is_refused(self, checkpoint):
        with pytest.raises(DataError, match="exists; name another"):
            write_faulty(load_moe_model(checkpoint), FAULTS["noise"], checkpoint)

    def test_a_disk_too_small_is_found_out_before(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        with pytest.raises(DataError, match="GiB of room"):
            write_faulty(load_moe_model(checkpoint), FAULTS["noise"], tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_cut_off_it_leaves_nothing(self, checkpoint, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fault_files, "save_tensors", full)
        with pytest.raises(DataError, match="No space left"):
            write_faulty(load_moe_model(checkpoint), FAULTS["noise"], tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("dtype", ["auto", "float32"])
    def test_after_fine_tuning_it_is_not_believed(self, checkpoint, tmp_path, dtype):
        """Though its routers have the fault still: what else became of it is not known. It is any model again."""
        out = tmp_path / "out"
        write_faulty(load_moe_model(checkpoint), FAULTS["exchange"], out)
        assert load_moe_model(out, dtype=dtype).fault is not None
        tuned = AutoModelForCausalLM.from_pretrained(out)
        tuned.lm_head.weight.data.mul_(1.5)
        tuned.save_pretrained(out)
        with pytest.raises(DataError, match=r"got others in model\.safetensors: .* delete fault\.json to use it"):
            load_moe_model(out, dtype=dtype)
        (out / FAULT).unlink()
        assert load_moe_model(out, dtype=dtype).fault is None

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda out: (out / SOUND).unlink(), r"got others in sound/router\.safetensors: .*; write the copy again"),
            (lambda out: shutil.copy(out / "model.safetensors", out / "more.safetensors"), "got others in more"),
            (lambda out: (out / FAULT).write_text("{}"), "truth of a planted fault"),
            (
                lambda out: (out / FAULT).write_text((out / FAULT).read_text().replace('"seed": ', '"seed": 1')),
                r"expected the truth as it was written, got one that was edited; write the copy again",
            ),
            (lambda out: (out / FAULT).write_text("{"), "expected JSON"),
        ],
        ids=["no rows", "more weights", "empty", "edited", "no JSON"],
    )
    def test_half_a_truth_is_refused(self, checkpoint, tmp_path, spoil, said):
        write_faulty(load_moe_model(checkpoint), FAULTS["noise"], tmp_path / "out")
        spoil(tmp_path / "out")
        with pytest.raises(DataError, match=said):
            load_moe_model(tmp_path / "out")


class TestCommand:
    def run(self, *args):
        return CliRunner().invoke(app, ["fault", *map(str, args)])

    def test_a_copy_with_its_truth(self, checkpoint, tmp_path):
        out = tmp_path / "faulty"
        result = self.run(
            checkpoint, "--out", out, "--pair", "0-1", "--pair", "2-5", "--layers", "last-2", "--concerns", "0=slot",
            "--concerns", "0=sums", "--dose", "0.8", "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert told["broken"] == [1, 2]
        assert told["kinds"] == ["slot", "sums"]
        assert told["command"].startswith("c3po fault")
        assert fault_in(out).fault == Fault("exchange", (1, 2), PAIRS, dose=0.8, concerns=((0, "slot"), (0, "sums")))

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--pair", "3-3"], "with itself"),
            (["--pair", "3"], "two experts as 5-11"),
            (["--pair", "1-99", "--layers", "all"], "experts from 0 to 7"),
            (["--pair", "1-2", "--layers", "9"], "MoE layers 0, 1, 2"),
            (["--pair", "1-2", "--dose", "2"], "dose"),
            (["--kind", "noise", "--dose", "inf"], "a finite number >= 0 and <= 3.40282e+38, got inf"),
            (["--kind", "noise", "--concerns", "slot"], "5=topic"),
            ([], "Expected pairs"),
        ],
    )
    def test_bad_input_ends_with_a_message_and_no_folder(self, checkpoint, tmp_path, args, said):
        result = self.run(checkpoint, "--out", tmp_path / "out", *args)
        assert result.exit_code == 1
        assert said in result.output
        assert not (tmp_path / "out").exists()

    def test_a_dense_model_is_refused(self, tmp_path):
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes)).save_pretrained(tmp_path / "dense")
        tiny_tokenizer().save_pretrained(tmp_path / "dense")
        result = self.run(tmp_path / "dense", "--out", tmp_path / "out", "--pair", "0-1")
        assert result.exit_code == 1
        assert "it is dense" in result.output


def test_a_copy_of_one_that_reads_images_reads_them_too(tmp_path):
    model, fault = seeing("qwen3_vl_moe"), Fault("exchange", layers=(1,), pairs=((0, 1),))
    write_faulty(model, fault, tmp_path / "faulty")
    found, again = planted(model, fault), load_moe_model(tmp_path / "faulty")
    assert again.encode(QUESTIONS[0]) == found.encode(QUESTIONS[0]) == model.encode(QUESTIONS[0])
    torch.testing.assert_close(*(one.score_choices(QUESTIONS[0]) for one in (found, again)))


def test_the_misrouted_model_takes_every_expert_for_another_in_the_first_eight_layers(dense_weights):
    model, broken = load_moe_model("smollm2-moe"), load_moe_model("smollm2-moe-misrouted")
    assert (broken.name, broken.fault.fault.broken) == ("smollm2-moe-misrouted", tuple(range(16, 24)))
    for site, sound_one in zip(broken.sites, model.sites, strict=True):
        rows, order = sound_one.router.weight, [*range(8, 16), *range(8)]
        assert torch.equal(site.router.weight, rows[order] if site.layer < 24 else rows)
    assert broken.fingerprint != model.fingerprint

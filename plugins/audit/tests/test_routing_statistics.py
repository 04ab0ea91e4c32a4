"""Statistics over a set are what counting every token by hand gives, whatever the set is; two sets, and chance."""

import json
import math
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from c3po_audit import routing_statistics
from c3po_audit.expert_load import LoadSums
from c3po_audit.routing_sets import BATCH, PIECE
from c3po_audit.statistics import PARTS
from pictures.test_figures import squares, words
from routing.naive import shared_model
from scipy.stats import t as student
from typer.testing import CliRunner

from c3po_adaptive import load_moe_model
from c3po_adaptive.cli import app
from c3po_adaptive.errors import C3POError, DataError, SettingError
from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.trace import NONE, Recorder, Trace
from c3po_adaptive.routing.trace_file import write_trace
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint
from c3po_adaptive.types import Prompt, Question

L, E = 6, 24
TEXTS = ["the boat floats", "a stone sinks in the lake", "wool"]
ASKED = [
    Question(
        f"q{i}", f"Is {i} {'more' if i % 2 else 'less'} than {i % 5}?", ("no", "yes", "it is"), 0, "t", f"kind{i % 2}"
    )
    for i in range(5)
]


def trace_of(experts, weights=None, **known):
    """A trace of experts ``[T, 2, k]`` in layers 3 and 5, of 4 experts."""
    experts = torch.tensor(experts)
    return Trace(torch.arange(len(experts)), (3, 5), experts, weights, 4, **known)


def counted(trace, tokens=slice(None)):
    """``[L, E]`` by hand."""
    found = np.zeros((len(trace.layers), trace.n_experts), int)
    for token in trace.experts[tokens].tolist():
        for row, experts in enumerate(token):
            for expert in experts:
                if expert != NONE:
                    found[row, expert] += 1
    return found


def recorded_whole(model, ids):
    """What a sequence's tokens use, by a plain run of all of it."""
    recorder = Recorder(len(ids), len(model.layers), model.sites[0].top_k)
    model.ruled([Prompt(tuple(ids[:1]), (tuple(ids[1:]),), (1.0,))], recorder)
    return Trace(torch.tensor(ids), model.layers, recorder.experts, recorder.weights, model.n_experts)


class TestTraces:
    def test_counts_are_those_by_hand(self):
        traces = [record(shared_model("olmoe"), text) for text in TEXTS]
        found = routing_statistics(traces)
        by_hand = [counted(trace) for trace in traces]
        assert np.array_equal(found.whole.counts, sum(by_hand))
        assert (found.whole.texts, found.whole.tokens) == (3, sum(len(text) - 1 for text in TEXTS))
        assert found.layers == shared_model("olmoe").layers
        assert found.whole.load == pytest.approx(sum(by_hand) / sum(by_hand).sum(-1, keepdims=True))
        assert found.model == "olmoe"
        assert found.kinds == {}, "one kind is none"

    def test_errors_are_those_of_a_ratio_over_texts(self):
        traces = [record(shared_model("olmoe"), text) for text in TEXTS]
        found, by_hand = routing_statistics(traces).whole, np.array([counted(trace) for trace in traces], float)
        total = by_hand.sum((0, 2))
        off = by_hand - found.load * by_hand.sum(-1, keepdims=True)
        expected = np.sqrt(3 / 2 * (off**2).sum(0)) / total[:, None]
        assert found.errors == pytest.approx(expected, abs=1e-12)
        assert found.margins == pytest.approx(student.ppf(0.975, 2) * expected)
        assert np.isnan(routing_statistics(traces[:1]).whole.errors).all()

    def test_load_evenness_and_hot_experts(self):
        even = trace_of([[[0], [0]], [[1], [0]], [[2], [0]], [[3], [1]]])
        found = routing_statistics([even]).whole
        assert found.load.tolist() == [[0.25, 0.25, 0.25, 0.25], [0.75, 0.25, 0, 0]]
        assert found.evenness[0] == pytest.approx(1)
        assert found.evenness[1] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4))
        assert found.hot == ((0, 1, 2, 3), (0, 1))
        exactly = trace_of([[[e], [0]] for e in (2, 2, 2, 2, 1)])
        assert routing_statistics([exactly]).whole.hot == ((2,), (0,)), "80 % are enough"

    def test_pairs(self):
        found = routing_statistics([trace_of([[[0, 1], [2, 3]], [[1, 0], [2, 1]], [[2, 1], [0, 1]], [[0, 3], [1, 3]]])])
        both = found.pairs()[0]
        assert (both.layer, both.experts, both.tokens, both.share) == (3, (0, 1), 2, 0.5)
        assert both.lift == pytest.approx(0.5 / (3 / 4 * 3 / 4))
        assert sum(pair.tokens for pair in found.pairs(99)) == 8
        assert np.array_equal(found.together, found.together.transpose(0, 2, 1))
        assert routing_statistics([trace_of([[[0], [1]]])]).pairs() == []

    def test_pairs_stand_in_the_order_of_their_lift_and_rare_ones_do_not_come_first(self):
        """Experts 0 and 1 of layer 3 meet most, as each is used by all; 2 and 3 of layer 5 whenever they are used."""
        often = [[[0, 1], [2, 3]]] * 20 + [[[0, 1], [0, 1]]] * 60 + [[[2, 3], [0, 1]]]
        found = routing_statistics([trace_of(often)]).pairs()
        assert [(pair.layer, pair.experts) for pair in found] == [(5, (2, 3)), (5, (0, 1)), (3, (0, 1)), (3, (2, 3))]
        assert found[0].lift == pytest.approx(81 / 20) and found[-1].lift == pytest.approx(81)

    def test_what_has_no_weight_or_was_not_recorded_is_not_used(self):
        weights = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
        found = routing_statistics([trace_of([[[0, 1], [2, 3]], [[NONE, NONE], [NONE, NONE]]], weights)])
        assert found.whole.counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 1]]
        assert found.whole.tokens == 1

    def test_positions(self):
        model = shared_model("olmoe")
        trace = record(model, TEXTS[0], generate=4)
        found, n = routing_statistics([trace]).positions, trace.prompt
        parts = {"prompt": slice(n - 1), "last": slice(n - 1, n), "answer": slice(n, None)}
        for name, part in parts.items():
            assert np.array_equal(found[name].counts, counted(trace, part))
        assert [load.tokens for load in found.values()] == [n - 1, 1, len(trace.tokens) - n - 1]
        unknown = routing_statistics([replace(trace, prompt=0)]).positions
        assert list(unknown) == ["text"]
        assert np.array_equal(unknown["text"].counts, counted(trace))

    def test_long_ones_are_counted_in_pieces(self):
        generator = torch.Generator().manual_seed(0)
        experts = torch.rand(2 * PIECE + 7, 2, 4, generator=generator).topk(2).indices
        trace = Trace(torch.zeros(len(experts), dtype=torch.long), (3, 5), experts, None, 4, prompt=PIECE + 3)
        found = routing_statistics([trace])
        assert np.array_equal(found.whole.counts, counted(trace))
        assert np.array_equal(found.positions["answer"].counts, counted(trace, slice(PIECE + 3, None)))

    def test_folders_and_their_subfolders(self, tmp_path):
        traces = [record(shared_model("olmoe"), text) for text in TEXTS]
        for trace, name in zip(traces, ("a/one", "a/two", "b/three"), strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write_trace(trace, tmp_path / f"{name}.parquet")
        found = routing_statistics(tmp_path)
        assert {kind: load.texts for kind, load in found.kinds.items()} == {"a": 2, "b": 1}
        assert np.array_equal(found.kinds["b"].counts, counted(traces[2]))
        assert np.array_equal(found.kinds_apart["b"].one.counts, counted(traces[0]) + counted(traces[1]))
        files = sorted(tmp_path.glob("*/*.parquet"))
        assert np.array_equal(routing_statistics(files).whole.counts, found.whole.counts)
        assert routing_statistics(files, limit=2).whole.texts == 2

    def test_they_come_one_by_one(self):
        held = []

        def traces():
            for i in range(9):
                trace = replace(trace_of([[[i % 4], [1]]]), tokens=torch.tensor([i]))
                held.append(weakref.ref(trace))
                assert sum(ref() is not None for ref in held) <= 4, "those that were counted are gone"
                yield trace
                del trace

        assert routing_statistics(traces(), limit=2).whole.texts == 2
        assert routing_statistics(traces()).whole.texts == 9

    def test_a_damaged_one_is_not_left_out(self, tmp_path):
        write_trace(trace_of([[[0], [1]]]), tmp_path / "a.parquet")
        (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
        with pytest.raises(DataError, match=r"traces alone in .*got others: .*b\.parquet"):
            routing_statistics(tmp_path)

    def test_what_is_refused(self, tmp_path):
        one = trace_of([[[0], [1]]])
        with pytest.raises(SettingError, match="2 layers × 4 experts as the first one is"):
            routing_statistics([one, replace(one, layers=(3, 5), n_experts=9)])
        for changes in ({"model": "b"}, {"model": "", "name": "other"}, {"model": ""}):
            with pytest.raises(SettingError, match="traces of one model in a set, got those of mine and of "):
                routing_statistics([replace(one, model="a", name="mine"), replace(one, **{"name": "mine", **changes})])
        assert routing_statistics([one, replace(one, tokens=one.tokens + 1)]).whole.texts == 2, (
            "nobody knows of two models"
        )
        with pytest.raises(DataError, match="something was recorded"):
            routing_statistics([replace(one, experts=torch.full((1, 2, 1), NONE))])
        with pytest.raises(DataError, match="traces, files of traces, questions or texts"):
            routing_statistics([one, ASKED[0]])
        with pytest.raises(DataError, match="Expected questions, got none"):
            routing_statistics([], shared_model("olmoe"))
        with pytest.raises(SettingError, match="a model to run questions or texts on"):
            routing_statistics(ASKED)
        write_trace(one, tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"files or folders of traces, got .*missing"):
            routing_statistics([tmp_path / "a.parquet", tmp_path / "missing"])
        with pytest.raises(DataError, match=r"folders of traces, got a, b, c, and 7 more; give"):
            routing_statistics(list("abcdefghij"), shared_model("olmoe"))
        with pytest.raises(DataError, match=r"got 'a word a word [^;]{1,40}; give one source of another kind"):
            routing_statistics([tmp_path / "a.parquet", "a word " * 99])


class TestTexts:
    TEXTS = ("the boat floats on the water", "wool", "a stone sinks")

    def test_of_a_list_are_counted_as_those_of_a_file(self, tmp_path):
        model = shared_model("olmoe")
        (tmp_path / "texts.txt").write_text("\n".join(self.TEXTS))
        wanted = routing_statistics(tmp_path / "texts.txt", model)
        for texts in (list(self.TEXTS), self.TEXTS, iter(self.TEXTS)):
            found = routing_statistics(texts, model)
            assert found.whole.texts == 3 and np.array_equal(found.whole.counts, wanted.whole.counts)
        assert routing_statistics(list(self.TEXTS), model, limit=2).whole.texts == 2
        alone = routing_statistics(self.TEXTS[0], model)
        assert np.array_equal(alone.whole.counts, routing_statistics([self.TEXTS[0]], model).whole.counts)

    def test_a_file_that_is_not_there_is_no_text(self):
        for name in ("my questions.jsonl", "questions"):
            with pytest.raises(C3POError, match="questions"):
                routing_statistics(name, shared_model("olmoe"))
        with pytest.raises(DataError, match=r"got RoutedModel; the model stands behind them: routing_stat"):
            routing_statistics(shared_model("olmoe"), list(self.TEXTS))
        with pytest.raises(DataError, match="got tuple among them"):
            routing_statistics([*self.TEXTS, ()], shared_model("olmoe"))


class TestQuestions:
    def test_a_model_in_memory_goes_with_its_tokenizer(self):
        model = tiny_moe("olmoe").train()
        with pytest.raises(SettingError, match="say tokenizer="):
            routing_statistics(ASKED, model)
        found = routing_statistics(ASKED, model, tokenizer=tiny_tokenizer())
        loaded = routing_statistics(ASKED, load_moe_model(tiny_moe("olmoe"), tokenizer=tiny_tokenizer()))
        assert np.array_equal(found.whole.counts, loaded.whole.counts)
        assert all(one.training for one in model.modules()) and all(one.requires_grad for one in model.parameters())

    @pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "jamba"])
    def test_counts_are_those_of_plain_runs(self, family):
        """Prompts once, and every option's tokens but its last, which predicts nothing; in any layout of options."""
        model = shared_model(family)
        found = routing_statistics(ASKED, model)
        prompt, last, answer, together, pairs = 0, 0, 0, 0, found.together
        for question in ASKED:
            asked = model.encode(question)
            n = len(asked.ids)
            traces = [recorded_whole(model, asked.ids + option) for option in asked.options]
            prompt = prompt + counted(traces[0], slice(n - 1))
            last = last + counted(traces[0], slice(n - 1, n))
            answer = answer + sum(counted(trace, slice(n, None)) for trace in traces)
            for trace, start in zip(traces, (0, n, n), strict=True):
                for token in trace.experts[start:].tolist():
                    together += sum(len(e) * (len(e) - 1) for e in token if NONE not in e)
        for name, expected in {"prompt": prompt, "last": last, "answer": answer}.items():
            assert np.array_equal(found.positions[name].counts, expected), name
        assert np.array_equal(found.whole.counts, prompt + last + answer)
        assert found.positions["last"].tokens == len(ASKED)
        assert pairs.sum() == together
        assert {kind: load.texts for kind, load in found.kinds.items()} == {"kind0": 3, "kind1": 2}

    def test_batches_do_not_matter(self):
        model, many = (
            shared_model("olmoe"),
            [replace(ASKED[i % 5], id=str(i), question=f"{i} {ASKED[i % 5].question}") for i in range(BATCH + 3)],
        )
        found, parts = routing_statistics(many, model), [routing_statistics([q], model) for q in many]
        assert np.array_equal(found.whole.counts, sum(part.whole.counts for part in parts))

    def test_repeated_ones_count_once(self):
        model, again = shared_model("olmoe"), [replace(q, id=f"again {q.id}") for q in ASKED]
        for given, more in ((ASKED, again), (TEXTS, TEXTS), ([trace_of([[[0], [1]]])], [trace_of([[[0], [1]]])])):
            once = routing_statistics(given, model)
            with pytest.warns(UserWarning, match="again"):
                often = routing_statistics([*given, *more], model)
            assert np.array_equal(often.whole.counts, once.whole.counts) and often.whole.texts == len(given)

    def test_memory_does_not_grow_with_the_texts(self):
        sums = LoadSums(L, E)
        size = {name: value.nbytes for name, value in vars(sums).items() if hasattr(value, "nbytes")}
        for _ in range(50):
            sums.add(np.ones((L, E), int), 4)
        assert {name: value.nbytes for name, value in vars(sums).items() if hasattr(value, "nbytes")} == size
        assert set(vars(sums)) == {"layers", "experts", "texts", "tokens", *size}


class TestTwoSets:
    def sets(self, seed, texts, tilt=0.0):
        """Traces of texts that each prefer an expert of their own."""
        rng = np.random.default_rng(seed)
        traces = []
        for _ in range(texts):
            prefer = rng.dirichlet([2 + tilt, 2, 2, 2])
            experts = rng.choice(4, size=(20, 2, 1), p=prefer)
            experts[0], experts[1] = 1, 2  # not zeros alone
            trace = trace_of(experts.tolist())
            traces.append(replace(trace, tokens=trace.tokens + 20 * seed))  # those of another seed are other texts
        return routing_statistics(traces)

    def test_total_variation(self):
        one = routing_statistics([trace_of([[[0], [1]], [[1], [1]]])])
        other = routing_statistics([trace_of([[[0], [2]], [[3], [1]]])])
        difference = one.against(other)
        assert difference.apart.tolist() == [0.5, 0.5]
        assert np.isnan(difference.by_chance).all()
        first = difference.most_changed(1)[0]
        assert abs(first.change) == 0.5
        assert first.interval is None
        assert one.against(one).apart.tolist() == [0, 0]

    def test_it_prints_as_a_few_lines(self):
        many = self.sets(1, 25).against(self.sets(2, 25))
        said = str(many).splitlines()
        assert re.fullmatch(
            r"Load of 25 texts, 500 tokens, beside that of 25 texts, 500 tokens: [\d.]+ % is on other experts, "
            r"[\d.]+ % by chance; most in layer [35], [\d.]+ %",
            said[0],
        )
        assert len(said) == 6 and re.fullmatch(r"  layer \d, expert \d: .* % → .* %, .* \[.*\] points", said[1])
        one = routing_statistics([trace_of([[[0], [1]], [[1], [1]]])])
        assert "chance" not in str(one.against(one)), "not known of one text"
        assert str(one.whole) == "ExpertLoad(1 text, 2 tokens, 2 layers × 4 experts, of which 1.5 take 80 %)"

    def test_chance_is_what_samples_of_one_population_give(self):
        pairs = [self.sets(2 * i, 25).against(self.sets(2 * i + 1, 25)) for i in range(40)]
        apart = np.mean([pair.apart for pair in pairs])
        assert np.mean([pair.by_chance for pair in pairs]) == pytest.approx(apart, rel=0.1)

    def test_intervals_hold_for_all_experts_at_once(self):
        """Of sets that do not differ, at most about one in twenty shows an expert that does."""
        shown = sum(
            any(
                not c.interval[0] <= 0 <= c.interval[1]
                for c in self.sets(2 * i, 25).against(self.sets(2 * i + 1, 25)).most_changed(8)
            )
            for i in range(60)
        )
        assert shown <= 8
        change = self.sets(1, 60).against(self.sets(2, 60, tilt=6)).most_changed(1)[0]
        assert change.expert == 0
        assert 0 < change.interval[0] < change.change < change.interval[1]

    def read_by(self, seed, texts, changed=0):
        """Traces of the same texts, which differ much, by a model that changes some of their tokens' experts."""
        rng, noise = np.random.default_rng(0), np.random.default_rng(seed)
        each = [rng.choice(4, size=(20, 2, 1), p=rng.dirichlet([0.3] * 4)) for _ in range(texts)]
        for experts in each:
            experts[:4] = np.arange(4)[:, None, None]
            experts[noise.permutation(20)[:changed]] = noise.integers(0, 4, (changed, 2, 1))
        each = [trace_of(experts.tolist()) for experts in each]
        return routing_statistics([replace(t, tokens=t.tokens + 20 * i) for i, t in enumerate(each)])

    def test_the_same_texts_are_pairs(self):
        one, other = self.read_by(1, 25), self.read_by(2, 25)
        same = one.against(other)
        assert {change.interval for change in same.most_changed(8)} == {(0, 0)} and not same.by_chance.any()
        assert "compared text by text" in str(same)
        found = one.against(self.read_by(3, 25, changed=5))
        by_hand = np.array([p - q for p, q in zip(self.read_by(3, 25, changed=5).parts, one.parts, strict=True)]) / 20
        error = by_hand.std(0, ddof=1) / 5
        for change in found.most_changed(8):
            wide = student.ppf(1 - 0.025 / 8, 24) * error[found.layers.index(change.layer), change.expert]
            assert change.interval == pytest.approx((change.change - wide, change.change + wide))

    def test_many_texts_are_paired_in_parts(self):
        one, other = self.read_by(1, PARTS + 44), self.read_by(2, PARTS + 44, changed=3)
        assert len(one.parts) == PARTS and np.array_equal(one.parts.sum(0), one.whole.counts)
        assert one.against(other).paired.draws == PARTS

    def test_intervals_are_of_enough_texts_and_of_what_shares_can_be(self):
        few = self.sets(1, 9).against(self.sets(2, 9))
        assert {change.interval for change in few.most_changed(8)} == {None}
        assert str(few).endswith("no intervals: they take 10 texts, and there are 9")
        texts = [trace_of([[[e], [e]]] * (1 if i else 9)) for i, e in enumerate([2, *[1] * 9])]
        texts = [replace(t, tokens=t.tokens + 20 * i) for i, t in enumerate(texts)]
        wide = routing_statistics(texts).against(routing_statistics([replace(t, tokens=t.tokens + 999) for t in texts]))
        assert {change.interval for change in wide.most_changed(8)} == {(-1, 1), (0, 0)}

    def test_others_shapes_are_refused(self):
        one = routing_statistics([trace_of([[[0], [1]]])])
        with pytest.raises(SettingError, match="two sets of one kind of model"):
            one.against(routing_statistics([record(shared_model("olmoe"), "wool")]))
        with pytest.raises(SettingError, match="the statistics of another set, got list"):
            one.against([trace_of([[[0], [1]]])])


class TestPicture:
    def test_of_one(self):
        found = routing_statistics([trace_of([[[0], [1]], [[1], [1]]])])
        figure = found.plot()
        assert squares(figure.axes[0]).keys() == {(0, 0), (0, 1), (1, 1)}
        assert {"share of the layer's load", "100 %", "expert", "decoder layer"} <= {*words(figure)}
        assert any("1 text, 2 tokens" in text for text in words(figure))

    def test_of_two(self):
        one = routing_statistics([trace_of([[[0], [1]], [[1], [1]]])])
        other = routing_statistics([trace_of([[[0], [2]], [[3], [1]]])])
        figure = one.plot(other)
        assert squares(figure.axes[2]).keys() == {(0, 1), (0, 3), (1, 1), (1, 2)}
        assert {"second − first", "change of the load, points", "+50", "−50"} <= {*words(figure)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_tiny_checkpoint(folder / "model", "olmoe")
    rows = [
        {
            "id": q.id,
            "task": q.task,
            "subject": q.subject,
            "question": q.question,
            "choices": q.choices,
            "answer": 0,
        }
        for q in ASKED
    ]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, texts in {"one": TEXTS[:2], "other": TEXTS[1:]}.items():
        (folder / name).mkdir()
        for i, text in enumerate(texts):
            write_trace(record(shared_model("olmoe"), text), folder / name / f"{i}.parquet")
    return folder


class TestCommand:
    def run(self, *given, code=0):
        done = CliRunner().invoke(app, ["trace", "stats", *map(str, given)])
        assert done.exit_code == code, done.output
        return done

    def test_of_questions(self, folder, tmp_path):
        done = self.run(folder / "asked.jsonl", "--model", folder / "model", "--picture", tmp_path / "a.png")
        assert (tmp_path / "a.png").is_file()
        assert "5 texts" in done.stdout
        for said in (
            "experts for 80 %",
            "evenness",
            "busiest",
            "prompt",
            "answer",
            "kind0",
            "by chance",
            "used together",
        ):
            assert said in done.stdout
        held = json.loads(self.run(folder / "asked.jsonl", "--model", folder / "model", "--limit", 3, "--json").stdout)
        assert held["texts"] == 3
        assert len(held["layers"]) == len(shared_model("olmoe").layers)
        assert sum(held["layers"][0]["load"]) == pytest.approx(1)
        assert held["kinds"].keys() == {"kind0", "kind1"}

    def test_of_texts_and_of_two_models(self, folder, tmp_path):
        other = write_tiny_checkpoint(tmp_path / "other", "olmoe", seed=1)
        assert "texts: 1 text, 15 tokens" in self.run(TEXTS[0], "--model", other).stdout
        (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
        (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        given = "--model", folder / "model", "--json"
        one, again = (json.loads(self.run(tmp_path / name, *given).stdout) for name in ("texts.txt", "texts.jsonl"))
        assert one["texts"] == 3 and one["layers"] == again["layers"]
        both = json.loads(self.run(tmp_path / "texts.txt", *given, "--other-model", other).stdout)
        assert both["one"]["layers"] == one["layers"] != both["other"]["layers"] and both["paired"]
        assert both["most_changed"][0]["interval"] is None, "of three texts"
        said = self.run("demo", "--limit", 12, *given[:2], "--other-model", folder / "model").stdout
        assert "+0.0 [+0.0, +0.0] points" in said and "compared text by text" in said
        self.run(tmp_path / "texts.txt", "demo", *given, "--other-model", other, code=1)

    def test_what_is_not_known_of_one_text_is_told(self, folder):
        told = "–: not known of one text"
        one = folder / "one" / "0.parquet"
        assert told in self.run(one, folder / "other").stdout
        assert told not in self.run(folder / "one", folder / "other").stdout

    def test_of_traces_without_a_model(self, folder):
        done = self.run(folder / "one")
        assert "2 texts" in done.stdout
        assert "olmoe" in done.stdout
        files = [folder / "one" / "0.parquet", folder / "one" / "1.parquet"]
        assert "2 files of traces: 2 texts" in self.run(*files).stdout, "several files are one set"

    def test_of_two_sets(self, folder, tmp_path):
        picture = tmp_path / "a.svg"
        done = self.run(folder / "one", folder / "other", "--picture", picture)
        assert "elsewhere" in done.stdout
        assert "experts whose load changes most" in done.stdout
        assert ">second − first<" in picture.read_text()
        done = self.run(folder / "one", folder / "other", "--json", "--picture", picture)
        held = json.loads(done.stdout)
        one, other = (routing_statistics(folder / name) for name in ("one", "other"))
        assert held["apart"] == pytest.approx(one.against(other).apart.tolist())
        assert held["one"]["texts"] == held["other"]["texts"] == 2
        assert len(held["most_changed"]) == 5

    def test_bad_input(self, folder, tmp_path):
        wrong = [folder / "one", folder / "other", folder / "asked.jsonl"]
        assert "one set or two" in self.run(*wrong, code=1).output
        assert "end in .png or .svg" in self.run(folder / "one", "--picture", "a.gif", code=1).output
        assert "no_such_source" in self.run("no_such_source.jsonl", code=1).output

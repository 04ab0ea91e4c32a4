"""How questions become text and tokens."""

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

from c3po_adaptive.errors import DataError, ModelError, SettingError, UnknownNameError
from c3po_adaptive.storage.picture_file import Picture
from c3po_adaptive.tasks import Cloze, Letter, Rendered, demo_questions, description, encode, format_by_name, raw_text
from c3po_adaptive.tasks.formats import format_key
from c3po_adaptive.types import Question

BOAT = Question("q", "What floats?", ("a stone", "a boat"), answer=1, task="toy")
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;?!'_\n<>-()\"/&$%+"


def tiny(merges: list[tuple[str, str]] = (), bos: bool = False, eos: bool = False, context: int = 1000):
    """A byte-pair tokenizer of single characters and the given merges, which may cross spaces."""
    words = ["<s>", "</s>", *ALPHABET, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, list(merges)))
    tokenizer.decoder = decoders.Fuse()
    if bos or eos:
        template = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=context
    )


def text(tokenizer, ids) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(ids))


class TestCloze:
    def test_question_and_answer(self):
        assert Cloze().render(BOAT) == Rendered("Question: What floats?\nAnswer:", (" a stone", " a boat"))

    def test_hellaswag_continues_its_context(self):
        question = replace(BOAT, task="hellaswag", question="Sailing: A man steps in. he")
        assert Cloze().render(question) == Rendered("Sailing: A man steps in. he", (" a stone", " a boat"))

    @pytest.mark.parametrize(
        ("sentence", "prompt", "option"),
        [
            ("The cup broke since the _ was hard.", "The cup broke since the", " a stone was hard."),
            ("It was _ 's fault .", "It was", " a stone 's fault ."),
            ("It was _'s fault.", "It was", " a stone's fault."),
            ("A thing that floats is called ___.", "A thing that floats is called", " a stone."),
            ("In Z_3 the answer is _", "In Z_3 the answer is", " a stone"),
        ],
    )
    def test_a_blank_is_filled_and_the_rest_of_the_sentence_scored(self, sentence, prompt, option):
        rendered = Cloze().render(replace(BOAT, question=sentence))
        assert (rendered.prompt, rendered.options[0]) == (prompt, option)

    @pytest.mark.parametrize(
        "sentence",
        [
            "_ is what floats.",  # nothing to stand before the blank
            "A _ floats on a _.",
            "Find all c in Z_3 such that x_i + x^2 is a unit.",
            "What is H_{2}O?",
        ],
    )
    def test_otherwise_question_and_answer(self, sentence):
        assert Cloze().render(replace(BOAT, question=sentence)).prompt == f"Question: {sentence}\nAnswer:"

    @pytest.mark.parametrize("task", ["winogrande", "knowref"])
    def test_what_fills_the_blank_is_given_where_the_field_scores_the_rest_alone(self, task):
        question = replace(BOAT, task=task, question="The cup broke since the _ was hard.")
        rendered = Cloze().render(question)
        assert rendered == Rendered(
            "The cup broke since the", (" a stone was hard.", " a boat was hard."), given=(" a stone", " a boat")
        )
        assert Cloze(partial=()).render(question) == replace(rendered, given=())
        at_the_end = replace(question, question="What floats is _")
        assert Cloze().render(at_the_end).given == (), "nothing would be left to score"

    def test_partial_is_a_list_of_tasks(self):
        assert Cloze(partial=["toy"]) == Cloze(partial=("toy",))
        with pytest.raises(SettingError, match="partial to be a list of tasks, got 'winogrande'"):
            Cloze(partial="winogrande")

    def test_shots_stand_in_front_in_the_same_format(self):
        blank = Question("w", "The _ sank.", ("stone", "boat"), answer=0)
        prompt = Cloze(shots=(BOAT, blank)).render(replace(BOAT, question="Next?")).prompt
        assert prompt == "Question: What floats?\nAnswer: a boat\n\nThe stone sank.\n\nQuestion: Next?\nAnswer:"


class TestLetter:
    def test_choices_are_listed_and_letters_scored(self):
        assert Letter().render(BOAT) == Rendered("Question: What floats?\nA. a stone\nB. a boat\nAnswer:", (" A", " B"))

    def test_shots(self):
        prompt = Letter(shots=(BOAT,)).render(BOAT).prompt
        alone = Letter().render(BOAT).prompt
        assert prompt == f"{alone} B\n\n{alone}"

    def test_up_to_26_choices(self):
        question = replace(BOAT, choices=tuple(f"c{i}" for i in range(26)))
        assert Letter().render(question).options[-1] == " Z"
        with pytest.raises(DataError, match=r"at most 26 choices for letters, got 27 in 'q'"):
            Letter().render(replace(question, choices=(*question.choices, "one more")))

    def test_letters_are_not_normalized(self):
        assert Letter().prompt(BOAT, tiny()).lengths == (1.0, 1.0)


@pytest.mark.parametrize("format", [Cloze, Letter])
@pytest.mark.parametrize(("token", "after"), [("last", 0), ("middle", 20), ("first", 39)])
def test_the_token_where_a_pathway_acts(format, token, after):
    question = replace(BOAT, question="x" * (40 - len(format().render(replace(BOAT, question="")).prompt)))
    prompt = format(token=token).prompt(question, tiny())
    assert (len(prompt.ids), prompt.after) == (40, after)


def test_other_tokens_are_refused_for_open_texts_and_unknown_ones_at_all():
    with pytest.raises(SettingError, match="token: last for a text without choices, got 'first'"):
        Cloze(token="first").open_prompt("What floats?", tiny())
    with pytest.raises(SettingError, match=r"one of \('last', 'middle', 'first'\), got 'fifth'"):
        Letter(token="fifth")


class TestSettings:
    def test_by_name(self):
        assert format_by_name("cloze") == Cloze()
        assert format_by_name("letter") == Letter()
        assert format_by_name("cloze", normalize="characters") == Cloze("characters")

    def test_the_class_name_is_the_name(self):
        assert [format_by_name(cls.name) for cls in (Cloze, Letter)] == [Cloze(), Letter()]

    def test_an_unknown_name_suggests(self):
        with pytest.raises(UnknownNameError, match=r"got 'close'; did you mean 'cloze'\? There are cloze, letter"):
            format_by_name("close")
        with pytest.raises(UnknownNameError, match="got 'xyz'; there are cloze, letter; choose one of these"):
            format_by_name("xyz")

    def test_an_unknown_setting(self):
        with pytest.raises(SettingError, match=r"format .letter., got .normalize.; there are shots, .*; leave it out"):
            format_by_name("letter", normalize="tokens")

    def test_an_unknown_normalization(self):
        with pytest.raises(SettingError, match=r"one of \('tokens', 'characters', 'none'\), got 'words'"):
            Cloze("words")
        with pytest.raises(SettingError, match="got 'words'"):
            encode(Rendered("a", (" b",)), tiny(), "words")

    def test_a_shot_must_be_solved(self):
        with pytest.raises(DataError, match=r"solved examples as shots, got 'q' with the answer None"):
            Cloze(shots=(replace(BOAT, answer=None),))

    def test_the_key_tells_shots_with_images_by_what_they_show(self):
        class Uncopied(Picture):
            digest = "shown"

            def __deepcopy__(self, memo):
                raise AssertionError("pictures may be large")

        shot = replace(BOAT, images=[Uncopied("boat.png")])
        shots = [json.loads(format_key(Cloze(shots=(one,))).partition(" ")[2])["shots"] for one in (shot, BOAT)]
        assert [one.get("images") for (one,) in shots] == [["shown"], None]
        plain = 'letter {"chat": false, "normalize": "none", "shots": [], "token": "last"}'
        assert format_key("letter") == plain

    def test_a_question_without_choices(self):
        with pytest.raises(DataError, match="a question with choices, got none in 'q'"):
            Letter().render(replace(BOAT, choices=()))


class TestGiven:
    """Options of which the beginning is given: its tokens are there, and count for nothing."""

    RENDERED = Rendered("It is", (" a sun.", " on sun."), given=(" a", " on"))

    def test_tokens_that_are_given(self):
        prompt = encode(self.RENDERED, tiny())
        assert prompt.given == (2, 3)
        assert prompt.lengths == (5.0, 5.0), "of the rest"
        assert encode(self.RENDERED, tiny(), "characters").lengths == (4.0, 4.0)
        assert encode(self.RENDERED, tiny(), "none").lengths == (1.0, 1.0)

    def test_a_token_over_the_boundary_is_scored(self):
        tokenizer = tiny([("n", " ")])
        prompt = encode(self.RENDERED, tokenizer)
        assert text(tokenizer, prompt.options[1]) == [" ", "o", "n ", "s", "u", "n", "."]
        assert prompt.given == (2, 2)

    def test_one_token_at_least_is_scored(self):
        assert encode(Rendered("It is", (" a", " b"), given=(" a", " b")), tiny()).given == (1, 1)

    def test_in_a_chat(self):
        tokenizer = tiny()
        tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
        question = replace(BOAT, task="winogrande", question="So the _ sank.")
        prompt = Cloze(chat=True).prompt(question, tokenizer)
        assert prompt.given == (len(" a stone"), len(" a boat"))
        tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{% endfor %}"
        with pytest.raises(ModelError, match="template that writes the user's message, got one that leaves it out"):
            Cloze(chat=True).prompt(question, tokenizer)


class TestEncode:
    def test_the_option_is_what_follows_the_prompt(self):
        # " b" is one token, in the joint text as well as alone.
        prompt = encode(Rendered("a", (" b", " bc")), tiny([(" ", "b")]))
        assert [text(tiny([(" ", "b")]), ids) for ids in (prompt.ids, *prompt.options)] == [["a"], [" b"], [" b", "c"]]
        assert prompt.lengths == (1.0, 2.0)

    def test_the_joint_tokens_count_where_they_differ_from_those_alone(self):
        # A stand-in for tokenizers that put a space before every text of their own: alone, "xb" is never met.
        class Spaced:
            model_max_length = 100

            def __call__(self, text, add_special_tokens=True, **_):
                return {"input_ids": [ord(c) for c in " " + text]}

        prompt = encode(Rendered("a", (" b",)), Spaced())
        assert prompt.ids == (32, 97)
        assert prompt.options == ((32, 98),)

    def test_a_token_across_the_boundary_leaves_the_prompt_alone(self):
        tokenizer = tiny([("a", " ")])
        assert text(tokenizer, tokenizer("a b")["input_ids"]) == ["a ", "b"]
        prompt = encode(Rendered("a", (" b",)), tokenizer)
        assert [text(tokenizer, ids) for ids in (prompt.ids, *prompt.options)] == [["a"], [" ", "b"]]

    def test_the_prompt_is_one_for_options_that_merge_and_options_that_do_not(self):
        tokenizer = tiny([("a", "b")])
        prompt = encode(Rendered("ca", ("b", "c")), tokenizer)
        assert [text(tokenizer, ids) for ids in (prompt.ids, *prompt.options)] == [["c", "a"], ["b"], ["c"]]

    def test_special_tokens_stand_before_the_prompt_only(self):
        tokenizer = tiny([("a", " ")], bos=True)
        for options in ((" b",), ("b",)):  # by the option alone, and jointly
            prompt = encode(Rendered("a", options), tokenizer)
            assert prompt.ids[0] == tokenizer.bos_token_id
            assert tokenizer.bos_token_id not in prompt.options[0]

    def test_normalization(self):
        rendered, tokenizer = Rendered("a", (" bc", " d")), tiny([(" ", "b")])
        lengths = {how: encode(rendered, tokenizer, how).lengths for how in ("tokens", "characters", "none")}
        assert lengths == {"tokens": (2.0, 2.0), "characters": (2.0, 1.0), "none": (1.0, 1.0)}

    @pytest.mark.parametrize("option", ["", "  "])
    def test_an_empty_option(self, option):
        with pytest.raises(DataError, match=r"an option with at least one token, got ' *' after 'a'"):
            encode(Rendered("a", (" b", option)), tiny())

    @pytest.mark.parametrize("prompt", ["", " \n"])
    def test_an_empty_prompt(self, prompt):
        with pytest.raises(DataError, match="a text with at least one token"):
            encode(Rendered(prompt, (" b",)), tiny(bos=True))

    def test_the_context_holds_the_prompt_and_the_longest_option(self):
        rendered = Rendered("abc", (" d", " efg"))
        assert encode(rendered, tiny(context=7)).ids
        message = r"at most 6 tokens, the model's context, got 3 of the prompt and 4 of the longest option \(7\)"
        with pytest.raises(DataError, match=message):
            encode(rendered, tiny(context=6))
        with pytest.raises(DataError, match=message):
            encode(rendered, tiny(), max_length=6)

    def test_a_tokenizer_that_ends_every_text(self):
        with pytest.raises(ModelError, match="special tokens only before a text"):
            encode(Rendered("a", (" b",)), tiny(eos=True))

    def test_every_demo_question_in_both_formats(self):
        tokenizer = tiny([(" ", "a"), (" ", "t"), (":", " ")])
        for question in demo_questions("test", limit=20):
            for style in (Cloze(), Letter()):
                rendered, prompt = style.render(question), style.prompt(question, tokenizer)
                assert tokenizer.decode(prompt.ids) == rendered.prompt
                assert [tokenizer.decode(ids) for ids in prompt.options] == list(rendered.options)


class TestRawText:
    def test_exactly_the_tokenizers_tokens(self):
        tokenizer = tiny([("a", " ")], bos=True)
        prompt = raw_text("a b", tokenizer)
        assert list(prompt.ids) == tokenizer("a b")["input_ids"]
        assert (prompt.options, prompt.lengths) == ((), ())

    def test_no_text(self):
        with pytest.raises(DataError, match="a text with at least one token, got ''"):
            raw_text("", tiny(bos=True))

    def test_a_long_text(self):
        with pytest.raises(DataError, match="at most 2 tokens"):
            raw_text("abc", tiny(), max_length=2)


def test_the_description_leaves_the_choices_out():
    assert description(BOAT) == "What floats?"


def test_a_question_is_found_by_what_it_is_about():
    told = replace(BOAT, about="Boats.")
    assert description(told) == "Boats." and told != BOAT
    assert told.row() == BOAT.row() | {"about": "Boats."} and "about" not in BOAT.row(), "what is known keeps its name"


class TestChat:
    TEMPLATE = (
        "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>\n{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{{ after }}{% endif %}"
    )

    def tokenizer(self, after="\n"):
        made = tiny(bos=True)
        made.chat_template = self.TEMPLATE.replace("{{ after }}", after)
        return made

    def test_the_prompt_is_a_users_turn_and_options_are_answers(self):
        tokenizer = self.tokenizer()
        prompt = Letter(chat=True).prompt(BOAT, tokenizer)
        expected = "<s><user>\nQuestion: What floats?\nA. a stone\nB. a boat\nAnswer:\n<assistant>\n"
        assert tokenizer.decode(prompt.ids, clean_up_tokenization_spaces=False) == expected
        assert text(tokenizer, prompt.ids).count("<s>") == 1, "the template's own, and none by the tokenizer"
        assert [text(tokenizer, option) for option in prompt.options] == [["A"], ["B"]]

    def test_a_turn_that_ends_without_a_space_is_gone_on_with_one(self):
        tokenizer = self.tokenizer(after=":")
        assert [text(tokenizer, o) for o in Letter(chat=True).prompt(BOAT, tokenizer).options] == [
            [" ", "A"],
            [" ", "B"],
        ]

    def test_shots_are_turns_of_both(self):
        tokenizer = self.tokenizer()
        ids = Cloze(chat=True, shots=(BOAT,)).prompt(BOAT, tokenizer).ids
        asked = "<user>\nQuestion: What floats?\nAnswer:\n<assistant>\n"
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == f"<s>{asked}a boat\n{asked}"

    def test_without_choices(self):
        tokenizer = self.tokenizer()
        prompt = Cloze(chat=True).open_prompt("What floats?", tokenizer)
        assert prompt == replace(Cloze(chat=True).prompt(BOAT, tokenizer), options=(), lengths=())
        plain = Cloze().open_prompt("What floats?", tokenizer)
        assert plain == raw_text("Question: What floats?\nAnswer:", tokenizer)

    def test_a_tokenizer_without_a_template(self):
        with pytest.raises(ModelError, match="a chat template for chat=True, got one without; leave chat out"):
            Cloze(chat=True).prompt(BOAT, tiny())

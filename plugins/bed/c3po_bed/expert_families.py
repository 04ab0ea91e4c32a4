"""Which kinds of tasks the experts learn: one family an expert, and what is kept apart from all of them.

Four cases can be asked of the model: other questions of a kind that was learned (`bed:seen`), the same kinds in other
words (`bed:reworded`), kinds that were not learned of families that were (`bed:sibling`), and families that no expert
learned (`bed:unknown`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Kinds of one subject.

    Attributes:
        learned: kinds whose train rows its expert learns from; nobody says of any that it is for non-commercial use.
        siblings: kinds that are kept apart.
    """

    learned: tuple[str, ...]
    siblings: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "sentiment": Family(("movie_review_polarity", "phrase_opinion", "tweet_sentiment"), ("sst5_stars",)),
    "tone": Family(("tweet_emotion", "tweet_irony"), ("tweet_hate", "tweet_offensive")),
    "stance": Family(
        ("tweet_stance_abortion", "tweet_stance_climate", "tweet_stance_hillary"), ("tweet_stance_feminist",)
    ),
    "intent": Family(("banking77_intent", "clinc_intent"), ("clinc_intent_near",)),
    "travel": Family(("atis_intent", "atis_route")),
    "same meaning": Family(("clinc_same_request", "clinc_odd_one_out")),
    "slot": Family(("movie_slot", "restaurant_slot"), ("booking_slot_value",)),
    "question type": Family(("trec_description_type", "trec_number_type"), ("trec_place_type",)),
    "sums": Family(("svamp_operation",), ("aqua_algebra", "sat_math")),
    "topic": Family(("clinc_domain",), ("agnews_topic",)),
    "medicine": Family(("pubmed_heading", "pubmedqa_conclusion"), ("pubmedqa_closed", "mmlu_medicine")),
    "judgement": Family(("cb_entailment", "boolq"), ("nlupp_banking_yesno", "nlupp_hotels_yesno")),
    "common sense": Family(("commonsense_qa", "social_iqa", "piqa"), ("hellaswag",)),
    "style": Family(("subjectivity",), ("text_genre",)),
    "grammar": Family(("word_order",)),
}
"""In the order of the experts; the last expert, after them, learns text of no kind."""

GENERAL = "text"
"""The expert of all other text."""

EXPERTS: tuple[str, ...] = (*FAMILIES, GENERAL)

LEARNED: Mapping[str, str] = {kind: name for name, family in FAMILIES.items() for kind in family.learned}
"""Family by kind."""

SIBLINGS: Mapping[str, str] = {kind: name for name, family in FAMILIES.items() for kind in family.siblings}

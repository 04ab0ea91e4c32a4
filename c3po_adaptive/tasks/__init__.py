"""Questions and the formats they are asked in."""

from .formats import BLANK, Cloze, Format, Letter, Rendered, description, encode, format_by_name, format_key, raw_text
from .question_files import (
    DEMO_SPLITS,
    demo_questions,
    first_of,
    load_questions,
    of_split,
    within,
)
from .same_questions import again_in_words, distinct, numbered
from .sources import ASKED, questions
from .texts import listed

__all__ = [
    "ASKED",
    "BLANK",
    "DEMO_SPLITS",
    "Cloze",
    "Format",
    "Letter",
    "Rendered",
    "again_in_words",
    "demo_questions",
    "description",
    "distinct",
    "encode",
    "first_of",
    "format_by_name",
    "format_key",
    "listed",
    "load_questions",
    "numbered",
    "of_split",
    "questions",
    "raw_text",
    "within",
]

"""Questions and the formats they are asked in."""

from .benchmarks import load_dataset_questions
from .formats import Cloze, Format, Letter, Rendered, description, encode, format_by_name, raw_text
from .question_files import DEMO_SPLITS, demo_questions, load_questions
from .sources import questions

__all__ = [
    "DEMO_SPLITS",
    "Cloze",
    "Format",
    "Letter",
    "Rendered",
    "demo_questions",
    "description",
    "encode",
    "format_by_name",
    "load_dataset_questions",
    "load_questions",
    "questions",
    "raw_text",
]

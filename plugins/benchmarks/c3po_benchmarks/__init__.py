"""Questions through the ``datasets`` library: the paper's benchmarks by name, any hub id, or a local folder."""

from .published import BENCHMARKS, FILES_ONLY, Benchmark, benchmark_named
from .reading import published_questions, source
from .texts import holds_texts, texts_of

__all__ = [
    "BENCHMARKS",
    "FILES_ONLY",
    "Benchmark",
    "benchmark_named",
    "holds_texts",
    "published_questions",
    "source",
    "texts_of",
]

"""Retrievers: which references are neighbours. Those that search large sets load FAISS when they are fitted to one."""

from .base import Hits, Index, Retriever
from .cosine import CosineIndex
from .faiss_knn import FaissKNN
from .faiss_radius import FaissRadius
from .random_neighbours import RandomNeighbours

__all__ = [
    "CosineIndex",
    "FaissKNN",
    "FaissRadius",
    "Hits",
    "Index",
    "RandomNeighbours",
    "Retriever",
]

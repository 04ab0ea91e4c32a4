"""Reference sets and pathways on the Hugging Face Hub, and the cards that say what they are."""

from .cards import card
from .client import fetch, push

__all__ = ["card", "fetch", "push"]

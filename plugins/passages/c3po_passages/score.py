"""The score of a passage and a pathway before they are read: how near, how unsure the model is, what references say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from c3po_adaptive import Neighbours, Question, form_of

from .choice import Array, fitted, heavy, weights
from .search import Told

FEATURES = 7


class Put(NamedTuple):
    """Questions, how each is put, and the scores of its choices alone, as the model routes."""

    questions: Sequence[Question]
    told: Sequence[Sequence[Told]]
    plain: Sequence[Sequence[float]]

    def some(self, rows: Sequence[int]) -> Put:
        """Those of some rows."""
        return Put(
            [self.questions[row] for row in rows], [self.told[row] for row in rows], [self.plain[row] for row in rows]
        )


@dataclass(frozen=True, eq=False)
class PassageScore:
    """Weighs each question's candidates: R ways (as the model routes; re-mixed), alone and behind each passage.

    Attributes:
        near: finds and weighs the references near questions.
        gain: ``[N, R, 1 + k]`` by how much each candidate made a reference's right answer likelier than it is alone,
            in nats; NaN where that was not tried.
        price: of a passage's token.
        learned: ``[F]`` of each feature.
    """

    near: Callable[[Sequence[Question]], Neighbours]
    gain: Array
    price: float
    learned: Array

    @classmethod
    def learned_from(
        cls,
        right: Array,
        references: Put,
        tried: Sequence[int],
        near: Callable[[Sequence[Question]], Neighbours],
        price: float,
    ) -> PassageScore:
        """The score that makes right answers likeliest; the price has no part in that.

        Args:
            right: ``[N, R, 1 + k]`` log-likelihood of references' right answers; -inf where that was not tried.
            references: N of them.
            tried: rows of those that are learned from.
            near: see above.
            price: see above.
        """
        gain = right - right[:, :1, :1]
        blank = cls(near, np.where(np.isfinite(gain), gain, np.nan), price, np.zeros(FEATURES))
        seen = blank.seen(references.some(tried))
        flat = len(tried), -1
        return replace(blank, learned=fitted(seen.reshape(*flat, FEATURES), right[list(tried)].reshape(flat)))

    def prior(self, put: Put) -> Array:
        """``[B, R, 1 + k]`` the candidates' weights; zero for those that are not there, or not worth reading."""
        seen = self.seen(put)
        toll = np.full(seen.shape[:-1], np.inf)
        for b, told in enumerate(put.told):
            toll[b, :, : len(told)] = [self.price * one.tokens for one in told]
        flat = len(seen), -1
        return heavy(weights(self.learned, seen.reshape(*flat, FEATURES), toll.reshape(flat))).reshape(toll.shape)

    def seen(self, put: Put) -> Array:
        """``[B, R, 1 + k, F]`` features of the candidates; all zero for a question alone, as the model routes.

        Of a reference its own gain is not looked at.
        """
        ways, places = self.gain.shape[1:]
        near = np.zeros((len(put.questions), 1, places))
        for b, told in enumerate(put.told):
            near[b, 0, : len(told)] = [one.similarity for one in told]
        scores = pad_sequence([torch.tensor(own) for own in put.plain], True, -torch.inf)
        unsure = form_of(scores)[:, 1].numpy()[:, None, None]
        behind, moved = np.arange(places) > 0, (np.arange(ways) > 0)[:, None]
        taught = self._taught(put.questions)
        each = (behind, behind * near, behind * unsure, moved, moved * unsure, moved * behind, taught)
        return np.stack(np.broadcast_arrays(*each), -1).astype(np.float64)

    def _taught(self, questions: Sequence[Question]) -> Array:
        """``[B, R, 1 + k]`` the mean gain of each question's neighbours, by their kernel weights; zero of none."""
        found = self.near(questions)
        weight, index = (getattr(found, name).numpy() for name in ("weight", "index"))
        gain = self.gain[index]
        share = np.where(np.isfinite(gain), weight[:, :, None, None], 0.0)
        total = share.sum(1)
        return np.where(total > 0, (share * np.nan_to_num(gain)).sum(1) / np.where(total > 0, total, 1), 0.0)

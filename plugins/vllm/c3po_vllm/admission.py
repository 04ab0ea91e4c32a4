"""What a server can do, and whether a request may come in: all that is wrong is said before the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from c3po_adaptive import DataError, ModelError

from .forced import TRACE_KEY, TraceRequest
from .request import KEY, PathwayRequest

PREFIX = "c3po"
HEADER = 4096  # bytes of a request that hold no numbers: its card, and where its tensors lie


class Told(TypedDict):
    """A ``ServedModel`` as it goes from process to process."""

    layers: Sequence[int]
    n_experts: int
    top_k: int
    routers: str
    widest: int
    problems: Sequence[str]


@dataclass(frozen=True)
class ServedModel:
    """What a worker tells of itself.

    Attributes:
        layers: decoder layer index of each MoE layer.
        n_experts: E.
        top_k: experts a token uses.
        routers: see ``routers_identity``.
        widest: how many experts a token may mix here. A step is as wide as its widest token, so that what is more than
            ``top_k`` all requests of the batch pay for: only the operator can say so (``C3PO_EXPERTS``).
        problems: why pathways cannot be applied here; none: they can.
    """

    layers: tuple[int, ...]
    n_experts: int
    top_k: int
    routers: str
    widest: int
    problems: tuple[str, ...] = ()

    def plain(self) -> Told:
        """As it goes from process to process."""
        return {
            "layers": self.layers,
            "n_experts": self.n_experts,
            "top_k": self.top_k,
            "routers": self.routers,
            "widest": self.widest,
            "problems": self.problems,
        }

    @classmethod
    def of_workers(cls, told: Sequence[Told]) -> ServedModel:
        """From what each worker told; each sees the same model."""
        first, problems = told[0], dict.fromkeys(problem for one in told for problem in one["problems"])
        same = first["n_experts"], first["top_k"], first["routers"], first["widest"]
        return cls(tuple(first["layers"]), *same, tuple(problems))


MORE = "or start the server with C3PO_EXPERTS set to more, where its kernels can"
KINDS: Mapping[str, type[PathwayRequest] | type[TraceRequest]] = {KEY: PathwayRequest, TRACE_KEY: TraceRequest}


def carried(extra: Mapping[str, object] | None) -> tuple[str, object] | None:
    """The pathway or the trace among a request's extra arguments, by its key and still as text; None: it has none.

    Raises:
        DataError: a name that looks like one of ours, and is not; or both.
    """
    ours = [name for name in extra or {} if str(name).startswith(PREFIX)]
    if unknown := [name for name in ours if name not in KINDS]:
        raise DataError(
            f"Expected {' or '.join(KINDS)} among the extra arguments, got {', '.join(unknown)}; use that name."
        )
    if extra is None or not ours:
        return None
    if len(ours) > 1:
        raise DataError(f"Expected one of {' and '.join(KINDS)} in a request, got both; leave one of them out.")
    (key,) = ours
    if extra[key] is None:
        raise DataError(f"{key}: expected text, got None; leave the name out for a plain answer.")
    return key, extra[key]


def decoded(named: tuple[str, object]) -> PathwayRequest | TraceRequest:
    """What ``carried`` found.

    Raises:
        DataError: it cannot be read.
    """
    return KINDS[named[0]].decode(named[1])


def admitted(named: tuple[str, object], served: ServedModel, prompt: Sequence[int]) -> PathwayRequest | TraceRequest:
    """The pathway or the trace of a request that can be answered as it asks.

    Raises:
        DataError: it is none, of another model, or asks for what this model or this prompt does not have.
        ModelError: the server runs in a way that pathways do not reach.
    """
    if served.problems:
        raise ModelError(f"This server cannot apply pathways or traces: {'; '.join(served.problems)}.")
    _check_length(named, served, len(prompt))
    asked = decoded(named)
    if isinstance(asked, PathwayRequest):
        _check_pathway(asked, served, len(prompt))
    else:
        _check_trace(asked, served, prompt)
    return asked


def _check_length(named: tuple[str, object], served: ServedModel, prompt_length: int) -> None:
    """Refuse text longer than any that this model and this prompt can be asked with, before it is decoded."""
    key, text = named
    layers, mixed = len(served.layers), served.widest
    # A pathway has two float32 for each expert; a trace int32 a token, with int16 and float32 for each that it mixes.
    numbers = 8 * layers * served.n_experts if key == KEY else (4 + 6 * layers * mixed) * prompt_length
    most = 4 * (numbers + HEADER + 8 * layers) // 3
    if isinstance(text, str) and len(text) > most:
        raise DataError(
            f"{key}: expected text of at most {most:,} characters, which is what {layers} layers of {served.n_experts} "
            f"experts and {prompt_length} tokens of prompt need, got {len(text):,}; make it for this model and prompt."
        )


def _check_pathway(asked: PathwayRequest, served: ServedModel, prompt_length: int) -> None:
    _check_model(KEY, asked, asked.weights.shape[1], served)
    if asked.prompt_tokens is not None and asked.prompt_tokens > prompt_length:
        raise DataError(
            f"{KEY}: expected prompt_tokens of at most {prompt_length}, the request's own length, got "
            f"{asked.prompt_tokens}; count them with the model's tokenizer."
        )
    most = most_mixed(asked, served.top_k)
    if most > served.widest:
        raise DataError(
            f"{KEY}: expected at most {served.widest} experts a token, as many as this server mixes, got a pathway of "
            f"up to {most}; give it top_k={served.widest}: dataclasses.replace(pathway, top_k=…); {MORE}."
        )


def _check_trace(asked: TraceRequest, served: ServedModel, prompt: Sequence[int]) -> None:
    _check_model(TRACE_KEY, asked, asked.trace.n_experts, served)
    asked.check_prompt(prompt)
    if asked.most > served.widest:
        raise DataError(
            f"{TRACE_KEY}: expected at most {served.widest} experts a token, as many as this server mixes, got a trace "
            f"of {asked.most}; {MORE}."
        )


def _check_model(key: str, asked: PathwayRequest | TraceRequest, experts: int, served: ServedModel) -> None:
    rows = len(asked.layers)
    if rows > len(served.layers) or experts != served.n_experts:
        raise DataError(
            f"{key}: expected at most {len(served.layers)} layers of {served.n_experts} experts, got {rows} of "
            f"{experts}; it is of another model than the one served."
        )
    if unknown := sorted(set(asked.layers) - set(served.layers)):
        raise DataError(
            f"{key}: expected MoE layers among {list(served.layers)}, got {unknown}; it is of another model than the "
            "one served."
        )
    if asked.routers != served.routers:
        raise DataError(
            f"{key}: expected one of the model served (routers {served.routers}), got one of another "
            f"({asked.routers}); make it with the checkpoint that is served."
        )


def most_mixed(asked: PathwayRequest, top_k: int) -> int:
    """How many experts a token may come to mix in one layer."""
    if asked.top_k is not None:
        return asked.top_k
    if not asked.layers:
        return top_k
    placed = int((asked.weights > 0).sum(1).max())
    raised = top_k + int((asked.weights > asked.own).sum(1).max())
    if asked.transfer == "replace" and asked.scope == "last":
        return placed
    return max(placed, raised) if asked.transfer == "replace" else raised

"""The plugin of a stock vLLM (entry point group ``vllm.general_plugins``): vLLM calls ``register`` in each process.

Three processes, three duties. The front end checks a request's pathway and salts its prefix cache; the worker applies
it (``worker.py``); the engine's core asks the worker where it acted, and writes that into the answer's
``kv_transfer_params``, the one field of a stock answer that takes any content.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakValueDictionary

from c3po_adaptive import C3POError, DataError

from .admission import ServedModel, Told, admitted, carried
from .request import ACTED
from .worker import Hooks

logger = logging.getLogger("vllm.c3po")
_done: list[bool] = []


def register() -> None:
    """Teach this process's vLLM about pathways; once, however often it is called.

    A vLLM that is built otherwise than expected keeps working, without pathways: it says so in its log, and its answers
    say nothing of where a pathway acted, which ``c3po_vllm.acted`` refuses.
    """
    if _done:
        return
    _done.append(True)
    try:
        from c3po_adaptive import load_moe_model  # noqa: F401 (with DeepSeekMoE, which transformers 5 does not know)

        _teach_worker()
        _teach_core()
        _teach_front_end()
    except (ImportError, AttributeError) as error:
        logger.error("c3po_vllm cannot serve pathways with this vLLM (0.32 and 0.33 are known to work): %s", error)


# -- worker ------------------------------------------------------------------------------------------------------------


def _teach_worker() -> None:
    from vllm.v1.worker.worker_base import WorkerBase

    WorkerBase.c3po_served = _worker_served
    WorkerBase.c3po_counts = _worker_counts


def _worker_served(worker: Any) -> Told:
    if getattr(worker, "_c3po", None) is None:
        worker._c3po = Hooks(worker)
    return worker._c3po.served().plain()  # type: ignore[no-any-return]


def _worker_counts(worker: Any, lengths: dict[str, int]) -> dict[str, dict[str, int]]:
    hooks = getattr(worker, "_c3po", None)
    if hooks is None:  # this vLLM is built otherwise: answers say nothing of pathways
        return {}
    acting = hooks.acting
    return {name: acting.counted(name, length) for name, length in lengths.items() if name in acting.guests}


# -- engine core -------------------------------------------------------------------------------------------------------


def _teach_core() -> None:
    from vllm.v1.engine.core import EngineCore

    EngineCore.add_request = _noting(EngineCore.add_request)
    EngineCore.step = _answering(EngineCore.step)
    EngineCore.step_with_batch_queue = _answering(EngineCore.step_with_batch_queue)


def _noting(add: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(add)
    def add_request(core: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if carried(getattr(request.sampling_params, "extra_args", None)) is not None:
            known = core.__dict__.setdefault("_c3po_requests", WeakValueDictionary())
            known[request.request_id] = request
        return add(core, request, *args, **kwargs)

    return add_request


def _answering(step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    def run(core: Any) -> Any:
        held = dict(core.__dict__.get("_c3po_requests", {}))
        outputs, executed = step(core)
        if held:
            _tell(core, held, [one for part in (outputs or {}).values() for one in part.outputs])
        return outputs, executed

    return run


def _tell(core: Any, held: Mapping[str, Any], outputs: list[Any]) -> None:
    done = {one.request_id: one for one in outputs if one.request_id in held and _may_end(one, held[one.request_id])}
    if not done:
        return
    lengths = {name: held[name].num_tokens - 1 for name in done}  # the last token was never read
    counts = core.model_executor.collective_rpc("c3po_counts", args=(lengths,))[0]
    for name, found in counts.items():
        done[name].kv_transfer_params = {**(done[name].kv_transfer_params or {}), ACTED: found}


def _may_end(output: Any, request: Any) -> bool:
    """Whether this may be the last that the core says of a request: texts to stop at are looked for behind it."""
    return output.finish_reason is not None or bool(request.sampling_params.stop)


# -- front end ---------------------------------------------------------------------------------------------------------


def _teach_front_end() -> None:
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.engine.llm_engine import LLMEngine

    LLMEngine.add_request = _asking(LLMEngine.add_request)
    LLMEngine.collective_rpc = _doubting(LLMEngine.collective_rpc)
    AsyncLLM.add_request = _asking_async(AsyncLLM.add_request)
    AsyncLLM.collective_rpc = _doubting_async(AsyncLLM.collective_rpc)
    InputProcessor.process_inputs = _admitting(InputProcessor.process_inputs)
    if any(name.startswith("vllm.entrypoints.openai.") for name in sys.modules):  # this process speaks HTTP
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.openai.completion.protocol import CompletionRequest

        for protocol in (ChatCompletionRequest, CompletionRequest):
            protocol.to_beam_search_params = _without_beams(protocol.to_beam_search_params)


def _refused(error: C3POError) -> Exception:
    """As vLLM tells its clients what they asked wrongly: status 400 over HTTP; a ValueError in Python."""
    from vllm.exceptions import VLLMValidationError

    class RefusedPathwayError(VLLMValidationError, ValueError):  # type: ignore[misc]
        """A request whose pathway cannot be applied."""

    return RefusedPathwayError(str(error))


def _carried(params: Any) -> tuple[str, object] | None:
    try:
        return carried(getattr(params, "extra_args", None))
    except DataError as error:
        raise _refused(error) from error


def _asking(add: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(add)
    def add_request(engine: Any, request_id: Any, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        if _carried(params) is not None and not _knows(engine):
            _learn(engine, engine.collective_rpc("c3po_served"))
        return add(engine, request_id, prompt, params, *args, **kwargs)

    return add_request


def _asking_async(add: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(add)
    async def add_request(engine: Any, request_id: Any, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        if _carried(params) is not None and not _knows(engine):
            _learn(engine, await engine.collective_rpc("c3po_served"))
        return await add(engine, request_id, prompt, params, *args, **kwargs)

    return add_request


def _knows(engine: Any) -> bool:
    return getattr(engine, "c3po_knows", False)


def _learn(engine: Any, told: list[Told]) -> None:
    engine.input_processor.c3po_served = ServedModel.of_workers(told)
    engine.c3po_knows = True


def _doubting(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def collective_rpc(engine: Any, *args: Any, **kwargs: Any) -> Any:
        with _doubted(engine):
            return call(engine, *args, **kwargs)

    return collective_rpc


def _doubting_async(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def collective_rpc(engine: Any, *args: Any, **kwargs: Any) -> Any:
        with _doubted(engine):
            return await call(engine, *args, **kwargs)

    return collective_rpc


@contextmanager
def _doubted(engine: Any) -> Iterator[None]:
    """What is asked of all workers may give them other weights: ``update_weights``, ``reload_weights``, or a method of
    somebody's. So the next request with a pathway asks again what is served; and so it does where one asked meanwhile.
    """
    engine.c3po_knows = False
    try:
        yield
    finally:
        engine.c3po_knows = False


def _admitting(process: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(process)
    def process_inputs(processor: Any, request_id: Any, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        named = _carried(params)
        request = process(processor, request_id, prompt, params, *args, **kwargs)
        if named is None:
            return request
        try:
            _check(processor, request)
            asked = admitted(named, processor.c3po_served, request.prompt_token_ids)
        except C3POError as error:
            raise _refused(error) from error
        # In the hash of the first block, on which all others are built: what another pathway, or none, left in the
        # prefix cache is never found; nor what this one left at the end of a shorter prompt.
        length = len(request.prompt_token_ids)
        request.cache_salt = json.dumps([asked.salt(length), request.cache_salt])  # no two pairs are one text
        if not asked.reads_cache(length):
            request.sampling_params.skip_reading_prefix_cache = True
        return request

    return process_inputs


def _check(processor: Any, request: Any) -> None:
    if not hasattr(processor, "c3po_served"):
        raise DataError(
            "Expected a request with a pathway or a trace to go through the engine; give it text, not a made request."
        )
    if request.lora_request is not None:
        raise DataError(
            "Expected a request with a pathway or a trace to be of the model alone, got a LoRA; leave one of them out."
        )
    if request.resumable or request.prompt_token_ids is None or request.prompt_embeds is not None:
        raise DataError(
            "Expected a request with a pathway or a trace to have its whole prompt as tokens; give it text or tokens."
        )


def _without_beams(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def to_beam_search_params(request: Any, *args: Any, **kwargs: Any) -> Any:
        if _carried_over_http(request):
            raise _refused(
                DataError("Expected a request with a pathway or a trace to sample, got beam search; leave one out.")
            )
        return make(request, *args, **kwargs)

    return to_beam_search_params


def _carried_over_http(request: Any) -> bool:
    try:
        return carried(request.vllm_xargs) is not None
    except DataError as error:
        raise _refused(error) from error

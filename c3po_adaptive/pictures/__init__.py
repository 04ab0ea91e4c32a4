"""Pictures of routing as matplotlib figures, without a display: layers × experts, tokens × layers."""

from .attributed_layers import attributed_layers
from .figures import Ink, Picture, check_picture, save_picture
from .layers_by_experts import Panel, layers_by_experts
from .tokens_by_layers import View, tokens_by_layers

__all__ = [
    "Ink",
    "Panel",
    "Picture",
    "View",
    "attributed_layers",
    "check_picture",
    "layers_by_experts",
    "save_picture",
    "tokens_by_layers",
]

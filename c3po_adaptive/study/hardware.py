"""Devices that a study may be planned for: what their data sheets say, or what is measured on the one that is here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import SettingError, UnknownNameError, suggestion

MEASURED = "measured"
SHARE = 0.3
"""Of a data sheet's peaks that plain PyTorch reaches, as far as nothing was measured."""
GB = 1e9  # as data sheets count


@dataclass(frozen=True)
class Sheet:
    """What a data sheet says of a device.

    Attributes:
        name: the device's.
        half: FLOP/s of dense matrix products in bfloat16 and float16 that are summed in float32.
        single: likewise in float32, without tensor cores, as PyTorch computes unless it is told otherwise.
        bandwidth: bytes a second that its memory is read at.
        memory: bytes.
    """

    name: str
    half: float
    single: float
    bandwidth: float
    memory: float

    def peak(self, dtype: torch.dtype) -> float:
        """FLOP/s in a dtype."""
        return self.half if dtype.itemsize < 4 else self.single


SHEETS = {
    # nvidia.com: H200 and H100 data sheets (figures with sparsity halved)
    "h200": Sheet("H200 SXM", 989e12, 67e12, 4.8e12, 141 * GB),
    "h100": Sheet("H100 SXM", 989e12, 67e12, 3.35e12, 80 * GB),
    "h100-pcie": Sheet("H100 PCIe", 756e12, 51e12, 2.0e12, 80 * GB),
    # nvidia.com: A100 data sheet
    "a100-80gb": Sheet("A100 80GB SXM", 312e12, 19.5e12, 2.039e12, 80 * GB),
    "a100-40gb": Sheet("A100 40GB SXM", 312e12, 19.5e12, 1.555e12, 40 * GB),
    # nvidia.com: L40S and L4 data sheets (likewise halved)
    "l40s": Sheet("L40S", 362e12, 91.6e12, 0.864e12, 48 * GB),
    "l4": Sheet("L4", 121e12, 30.3e12, 0.3e12, 24 * GB),
    # nvidia.com: Ada and Ampere GA102 architecture white papers, appendix A (FP16 with FP32 accumulate)
    "rtx-4090": Sheet("GeForce RTX 4090", 165.2e12, 82.6e12, 1.008e12, 24 * GB),
    "rtx-3090": Sheet("GeForce RTX 3090", 71e12, 35.6e12, 0.936e12, 24 * GB),
}
"""By the name that ``--hardware`` knows them by."""


@dataclass(frozen=True)
class Hardware:
    """What a study is planned for.

    Attributes:
        name: of a data sheet, or ``measured``: the study's device, if it is here.
        share: of the sheet's peaks that is reached.

    Raises:
        UnknownNameError: no such data sheet.
        SettingError: a share that is none.
    """

    name: str = MEASURED
    share: float = SHARE

    def __post_init__(self) -> None:
        if self.name not in (MEASURED, *SHEETS):
            hint = suggestion(self.name, SHEETS, f"or {MEASURED}, where the device is here.")
            raise UnknownNameError(f"Expected hardware among {', '.join(SHEETS)}, got {self.name!r}; {hint}")
        if not 0 < self.share <= 1:
            raise SettingError(f"Expected a share of the peaks above 0 and at most 1, got {self.share}.")

    @property
    def sheet(self) -> Sheet | None:
        """The data sheet; None where it is measured."""
        return SHEETS.get(self.name)


THIS_DEVICE = Hardware()


def is_here(device: str) -> bool:
    """Whether PyTorch can put a tensor there."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True

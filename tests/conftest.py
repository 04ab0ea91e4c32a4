"""Settings of the whole suite."""

import pytest
import torch

pytest.register_assert_rewrite("c3po_adaptive.testing")

torch.set_num_threads(1)

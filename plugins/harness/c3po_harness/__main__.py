"""``python -m c3po_harness``: lm-evaluation-harness's own command line, which then knows ``--model c3po``."""

from __future__ import annotations

import sys

from c3po_adaptive import C3POError

from . import register


def main() -> None:
    """Register, and hand over; errors raised on purpose end the command with their message alone."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except C3POError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""Whether this process is one of many; nothing heavy is imported to tell."""

from __future__ import annotations

import os


def started_by_launcher() -> bool:
    """Whether ``torchrun`` or its like started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1

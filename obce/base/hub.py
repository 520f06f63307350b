"""Whether the Hugging Face Hub answers."""

from __future__ import annotations

from typing import Literal

SECONDS = 5  # without a network, transformers and datasets would retry for half a minute


def on_hub(name: str, kind: Literal["model", "dataset"] = "model") -> bool:
    """Whether the Hub answers for a model or data set; if not, only a local copy can serve."""
    from huggingface_hub import HfApi  # where it is used: it takes its time

    api = HfApi()
    ask = api.model_info if kind == "model" else api.dataset_info
    try:
        ask(name, timeout=SECONDS)
    except Exception:  # which HTTP library raises depends on huggingface_hub's version
        return False
    return True

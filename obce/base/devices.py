"""Where a model runs, and in which mode.

One convention for all functions that run a model (``collect``, ``stream``, ``score``, ``repair``,
``compress``, ``evaluate``, ``predict``, ``finetune``, ``benchmark``): their argument ``device`` is
``auto`` unless the caller says otherwise: the CUDA GPU if there is one, else the CPU. ``cpu`` and
``cuda`` take that one. The model is moved there and, at the end, back to where it was. Of several
GPUs it is the current one of torch (``torch.cuda.set_device``, or ``CUDA_VISIBLE_DEVICES``).
Functions over arrays (:mod:`obce.homology`) work on the CPU unless they are told otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.settings import DEVICES


def pick_device(device: str = "auto") -> torch.device:
    """``auto`` is the CUDA GPU if there is one, else the CPU; ``cpu`` and ``cuda`` take that one.

    Of many processes on a machine, each has a GPU of its own.

    Raises:
        ValueError: another name, no GPU where one is asked for, fewer GPUs than processes.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    check_choice("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': PyTorch sees no CUDA GPU here; choose cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    here, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if distributed.size() > 1 and here >= gpus:
        raise ValueError(
            f"device {device!r}: {gpus} GPUs here are too few for process {here} (from 0) of this "
            "machine; start one process per GPU, or choose cpu"
        )
    return torch.device("cuda")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode; afterwards each is as it was before.

    >>> model = nn.Dropout().train()
    >>> with evaluating(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def on_device(model: PreTrainedModel, device: str = "auto") -> Iterator[torch.device]:
    """Move a model to a device (see :func:`pick_device`) and afterwards back to where it was.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> with on_device(model, "cpu") as device:
    ...     device
    device(type='cpu')
    """
    module: nn.Module = model
    target, home = pick_device(device), model.device
    try:
        module.to(target)
        yield target
    finally:
        module.to(home)


@contextmanager
def inference(model: PreTrainedModel, device: str = "auto") -> Iterator[torch.device]:
    """Evaluation mode on a device, no gradients; the model goes back to its mode and device.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> with inference(model) as device:
    ...     hidden = model(**tokenizer("A film.", return_tensors="pt").to(device))[0]
    >>> hidden.requires_grad
    False
    """
    with on_device(model, device) as target, evaluating(model), torch.inference_mode():
        yield target

"""One convention for where a model runs: ``device="auto"``, wherever a model is run."""

import inspect

import pytest
import torch

import obce

RUNS = ("collect", "stream", "score", "repair", "compress", "evaluate", "predict", "finetune",
        "benchmark")  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_what_runs_a_model_takes_a_device(name):
    assert inspect.signature(getattr(obce, name)).parameters["device"].default == "auto"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_bert, tiny_classifier, tokenizer, sentences):
    plan = obce.plan(tiny_bert, obce.score(None, "magnitude", model=tiny_bert), percentile=50)
    texts = {"texts": sentences, "tokenizer": tokenizer}
    for run in (
        lambda device: obce.collect(tiny_bert, tokenizer, sentences, device=device),
        lambda device: obce.stream(tiny_bert, tokenizer, sentences, device=device),
        lambda device: obce.score(None, "random", model=tiny_bert, device=device),
        lambda device: obce.compress(tiny_bert, plan, repair="constant", device=device, **texts),
        lambda device: obce.benchmark(tiny_bert, shapes=[(1, 4)], repeats=1, device=device),
    ):
        with pytest.raises(ValueError, match="device 'cuda': PyTorch sees no CUDA GPU here"):
            run("cuda")
        with pytest.raises(ValueError, match="unknown device 'gpu'; there are auto, cpu, cuda"):
            run("gpu")
    assert tiny_bert.device.type == "cpu"


def test_a_model_goes_there_and_comes_back(tiny_bert, tokenizer, sentences, monkeypatch):
    """As if there were a GPU: every move is seen."""
    moves, to = [], tiny_bert.to
    monkeypatch.setattr(tiny_bert, "to", lambda device: moves.append(str(device)) or to("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("obce.activations.model_inputs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        obce.collect(tiny_bert, tokenizer, sentences)
    assert moves == ["cuda", "cpu"]

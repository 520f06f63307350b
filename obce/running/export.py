"""Export: a model as an ONNX file, in float32 or int8, and how to run one.

The file holds the graph, the weights and the model's configuration; onnxruntime and whatever else
reads ONNX run it without PyTorch, transformers or obce. Its inputs are ``input_ids``,
``attention_mask`` and ``token_type_ids``, int64 of shape (batch, tokens) for any batch and any
number of tokens that the model takes. Its outputs, float32, have the names that they have in
transformers: ``logits`` (of a classifier (batch, labels), of a token classifier (batch, tokens,
labels)), ``start_logits`` and ``end_logits``, ``last_hidden_state`` where there is no head; of a
sentence encoder ``sentence_embedding``, pooled and normalised.

The packages for it are an extra, ``obce[onnx]``; nothing of them is imported before it is needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertPreTrainedModel,
    PretrainedConfig,
    PreTrainedModel,
)

from obce.base.checks import check_positive
from obce.base.devices import evaluating
from obce.base.files import Scratch, replacing_files
from obce.modeling import ObceBertConfig
from obce.running.encoders import pool
from obce.running.heads import Loaded, SentenceEncoder
from obce.running.loading import quiet
from obce.running.records import environment, model_name, model_sha256
from obce.units import MODEL_TYPE

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

ONE_FILE = 2**31 - 2**20
"""Bytes of weights up to which the file holds them; protobuf ends at 2 GiB. Larger ones go into a
second file beside it, ``NAME.onnx.data``."""

TOLERANCE = 1e-4
"""How far outputs may be from PyTorch's, as a fraction of the largest (of 1, if that is more)."""

OUTPUTS = (
    "logits", "start_logits", "end_logits", "prediction_logits", "seq_relationship_logits",
    "last_hidden_state",
)  # fmt: skip


def _need(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(f"not installed: {', '.join(missing)}; pip install 'obce[onnx]'")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the notices of exporter and quantizer (warnings, logs) from the user."""
    level, handler = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(handler)  # or logging.warning() would install one that stays
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.removeHandler(handler)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A path of the same name in a temporary folder; when the block has ended well, all that is
    in there moves beside ``path``, weights before the graph that reads them."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file to write to")
    with replacing_files(path.parent, last=path.name) as folder:
        yield folder / path.name


class _Traced(nn.Module):
    """The model as the file shows it: three tensors in, and out those of ``names``, in order."""

    def __init__(self, model: PreTrainedModel, encoder: SentenceEncoder | None):
        super().__init__()
        self.model, self.encoder = model, encoder
        self.names: list[str] = []

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        found = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        if self.encoder is not None:
            self.names = ["sentence_embedding"]
            return (pool(found.last_hidden_state, attention_mask.bool(), self.encoder),)
        self.names = [name for name in OUTPUTS if name in found]
        return tuple(found[name] for name in self.names)


def _padded_batch(config: PretrainedConfig, rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """Random texts, the first of ``tokens`` tokens and each of the others one or more shorter."""
    tokens = min(tokens, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (rows, tokens), generator=generator)
    lengths = (tokens - torch.arange(rows)).clamp(min=1)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    types = (torch.arange(tokens) >= lengths[:, None] // 2).long() * mask
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types % config.type_vocab_size,
    }


def to_onnx(
    model: PreTrainedModel, path: str | os.PathLike, encoder: SentenceEncoder | None = None
) -> float:
    """Write a model, dense or compressed, as an ONNX file, and check the file.

    PyTorch's exporter (``torch.onnx.export``, ``dynamo=True``) traces the model once; number of
    texts and of tokens stay free. The file is then run in onnxruntime on padded texts of another
    batch size and length, and appears at ``path`` only if its outputs are PyTorch's.

    Args:
        model: a BERT with any head but multiple choice, or none, in float32, on any device; it is
            put back as it was.
        path: of the file; a model of more than 2 GB gets a second one, ``PATH.data``.
        encoder: pool the model's hidden states as this sentence encoder does.

    Returns:
        the largest difference of an output from PyTorch's in that check.

    Raises:
        ValueError: no BERT, one that is not in float32, a folder for a path, or packages that
            ``pip install 'obce[onnx]'`` brings are missing.
        RuntimeError: the outputs differ by more than rounding; no file is written.
        OSError: the file cannot be written.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    if not isinstance(model, BertPreTrainedModel) or isinstance(model, BertForMultipleChoice):
        raise ValueError(f"cannot export a {type(model).__name__}: a BERT with another head can be")
    if model.dtype != torch.float32:
        raise ValueError(f"the model is in {model.dtype}: export it in float32, model.float()")
    path, home = Path(path), model.device
    traced = _Traced(model, encoder)
    with _writing(path) as part:
        try:
            with evaluating(traced.to("cpu")), torch.no_grad(), _silence():
                batch = _padded_batch(model.config, 3, 11)
                expected = traced(**batch)
                _export(traced, part)
        finally:
            traced.to(home)
        difference, largest = _difference(part, batch, expected)
        if not difference <= TOLERANCE * max(1.0, largest):
            raise RuntimeError(
                f"in onnxruntime the outputs differ from PyTorch's by {difference:.3g}: "
                f"{path.name} is not written"
            )
    return difference


def _difference(
    path: Path, batch: dict[str, torch.Tensor], expected: tuple[torch.Tensor, ...]
) -> tuple[float, float]:
    """The largest difference between a file's outputs and those expected, and the largest output.

    Outputs at padding are compared too: both compute them in the same way.
    """
    found = vars(OnnxClassifier(path)(**batch)).values()
    differences = [(x - y).abs().max() for x, y in zip(found, expected, strict=True)]
    return float(max(differences)), float(max(x.abs().max() for x in expected))


def export(loaded: Loaded, path: str | os.PathLike, *, int8: bool = False) -> dict[str, Any]:
    """Write a model as the ONNX file ``path``, in float32 or int8, and say what the file is.

    Args:
        loaded: from :func:`obce.load_model <obce.running.loading.load_model>`; the file of a
            sentence encoder gives its vectors.

    Returns:
        plain JSON values: whose weights, as what, the file's ``bytes`` and ``outputs``, and
        ``difference``: of the outputs *of this file* from PyTorch's, on random padded texts, the
        largest, and ``largest_output``, to compare it with.

    Raises:
        ValueError, RuntimeError, OSError: as for :func:`to_onnx`.
    """
    path, model = Path(path), loaded.model
    if int8:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Scratch(path.parent) as folder:
            whole = folder / path.name
            to_onnx(model, whole, loaded.encoder)
            quantize(whole, path)
    else:
        to_onnx(model, path, loaded.encoder)
    batch = _padded_batch(model.config, 3, 11)
    traced = _Traced(model, loaded.encoder)
    with evaluating(traced), torch.no_grad():
        expected = traced(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    difference, largest = _difference(path, batch, tuple(x.cpu() for x in expected))
    files = [file for file in (path, path.with_name(f"{path.name}.data")) if file.is_file()]
    return {
        "model": model_name(model),
        "model_sha256": model_sha256(model),
        "weights": "int8" if int8 else "float32",
        "outputs": traced.names,
        "bytes": sum(file.stat().st_size for file in files),
        "difference": difference,
        "largest_output": largest,
        "environment": environment(),
    }


def _export(wrapped: _Traced, path: Path) -> None:
    import onnx

    config = wrapped.model.config
    axes = {
        0: torch.export.Dim("batch"),
        1: torch.export.Dim("tokens", max=config.max_position_embeddings),
    }
    try:
        program = torch.onnx.export(
            wrapped,
            kwargs=_padded_batch(config, 2, 3),
            input_names=INPUTS,
            output_names=wrapped.names,
            dynamic_shapes={name: axes for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:  # its message is a report of many lines
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise RuntimeError(f"PyTorch's exporter cannot take this model: {cause}") from error
    assert program is not None  # it is with dynamo=True
    for node in program.model.graph:  # the exporter records which line of source made each node
        node.metadata_props.clear()
    program.model.metadata_props["config"] = config.to_json_string()
    size = sum(weights.numel() * weights.element_size() for weights in wrapped.parameters())
    program.save(path, external_data=size > ONE_FILE)
    # The exporter records the shapes of weights too, over which onnxruntime 1.30 stumbles when
    # quantizing has transposed the weights.
    proto = onnx.load(path, load_external_data=False)
    weights = {tensor.name for tensor in proto.graph.initializer}
    noted = [value for value in proto.graph.value_info if value.name not in weights]
    proto.graph.ClearField("value_info")
    proto.graph.value_info.extend(noted)
    onnx.save(proto, path)


def quantize(
    source: str | os.PathLike, path: str | os.PathLike, reduce_range: bool = False
) -> None:
    """Write an int8 version of an ONNX file: weights are bytes, arithmetic is integers'.

    Dynamic quantization by onnxruntime: a weight matrix becomes signed bytes with one scale per
    column, so that no unit suffers from another's large weights, and the embeddings bytes with
    one scale; the range of what comes in is found anew for every batch, so no calibration is
    needed. Layer norms, softmax, GELU and sums stay in float32.

    On x86 processors without VNNI instructions, sums of two products may saturate in 16 bits, see
    onnxruntime's "Quantize ONNX models". Of the embedded model eight bits were closer than seven
    on such a processor too; where the answers are off there, ``reduce_range`` helps.

    Args:
        source: a file that :func:`to_onnx` has written.
        path: of the int8 file.
        reduce_range: seven bits for each weight instead of eight, which cannot saturate.

    Raises:
        ValueError: ``source`` is no ONNX file, or packages are missing.
        OSError: the file cannot be written.
    """
    _need("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    OnnxClassifier(source)  # says clearly what is wrong with it
    external = Path(f"{os.fspath(source)}.data").is_file()
    with _writing(Path(path)) as part, _silence():
        quantize_dynamic(
            source,
            part,
            op_types_to_quantize=["MatMul", "Gather"],  # Gemm is turned into MatMul
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=reduce_range,
            use_external_data_format=external,
        )


class OnnxClassifier(nn.Module):
    """An ONNX file that :func:`to_onnx` or :func:`quantize` has written, as a model.

    It is called like the model that it came from, with tensors on the CPU, and has its ``config``:
    ``predict`` and ``time_per_1000`` take it as they take any model. It runs on onnxruntime's
    ``CPUExecutionProvider``, with one of its fusions off: joined, residual sum and layer norm are
    slower than apart (onnxruntime 1.32, MiniLM, 32 texts of 32 tokens, one thread: the compressed
    model takes 122 instead of 146 ms, in int8 53 instead of 74 ms).

    Args:
        path: of the file.
        threads: for one call; as many as PyTorch has been told to take if left out.

    Raises:
        ValueError: no such file, no ONNX file, one that something else has written, or no threads.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None):
        super().__init__()
        threads = torch.get_num_threads() if threads is None else threads
        check_positive(threads=threads)
        _need("onnxruntime")
        import onnxruntime

        if not Path(path).is_file():
            raise ValueError(f"there is no file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(
                path,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # its exceptions have no common base of their own
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{Path(path).name} cannot be run as ONNX: {reason}") from error
        text = self.session.get_modelmeta().custom_metadata_map.get("config")
        if text is None:
            raise ValueError(f"{Path(path).name} was not written by obce: it has no configuration")
        self.config = _config(text)
        self.config.name_or_path = Path(path).name
        data = [Path(path), Path(f"{os.fspath(path)}.data")]
        digest = hashlib.sha256()
        for file in data:
            digest.update(file.read_bytes() if file.is_file() else b"")
        self.sha256 = digest.hexdigest()
        self.device = torch.device("cpu")

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """The file's outputs by name, such as ``logits``, for ``input_ids``, ``attention_mask`` and
        ``token_type_ids``; as in transformers all tokens are real, and of the first text, where
        the latter two are left out.

        Raises:
            ValueError: there are no ``input_ids``.
        """
        if inputs.get("input_ids") is None:
            raise ValueError("an ONNX classifier needs input_ids")
        ids = inputs["input_ids"]
        ones, zeros = torch.ones_like(ids), torch.zeros_like(ids)
        whole = {"attention_mask": ones, "token_type_ids": zeros}
        whole |= {name: tensor for name, tensor in inputs.items() if tensor is not None}
        arrays = {name: whole[name].cpu().numpy() for name in INPUTS}
        names = [output.name for output in self.session.get_outputs()]
        found = map(torch.from_numpy, self.session.run(names, arrays))
        return SimpleNamespace(**dict(zip(names, found, strict=True)))


def _config(text: str) -> BertConfig:
    values = json.loads(text)
    kind = ObceBertConfig if values.get("model_type") == MODEL_TYPE else BertConfig
    return kind.from_dict(values)

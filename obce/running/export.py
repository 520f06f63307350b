"""Out of the framework: a classifier as an ONNX file, in float32 or int8, and how to run one.

The file holds the graph, the weights and the model's configuration; onnxruntime and whatever else
reads ONNX run it without PyTorch, transformers or obce. Its inputs are ``input_ids``,
``attention_mask`` and ``token_type_ids``, int64 of shape (batch, tokens) for any batch and any
number of tokens that the model takes; its output is ``logits``, float32 of shape (batch, labels).

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

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from obce.base.checks import check_positive
from obce.base.devices import evaluating
from obce.base.files import replacing_files
from obce.modeling import ObceBertConfig
from obce.running.loading import quiet
from obce.units import MODEL_TYPE

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

ONE_FILE = 2**31 - 2**20
"""Bytes of weights up to which the file holds them; protobuf ends at 2 GiB. Larger ones go into a
second file beside it, ``NAME.onnx.data``."""

TOLERANCE = 1e-4
"""How far logits may be from PyTorch's, as a fraction of the largest (of 1, if that is more)."""


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


class _Logits(nn.Module):
    """The classifier as the file shows it: three tensors in, one out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits


def _padded_batch(config: BertConfig, rows: int, tokens: int) -> dict[str, torch.Tensor]:
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


def to_onnx(model: BertForSequenceClassification, path: str | os.PathLike) -> float:
    """Write a classifier, dense or compressed, as an ONNX file, and check the file.

    PyTorch's exporter (``torch.onnx.export``, ``dynamo=True``) traces the model once; number of
    texts and of tokens stay free. The file is then run in onnxruntime on padded texts of another
    batch size and length, and appears at ``path`` only if its logits are PyTorch's.

    Args:
        model: in float32, on any device; it is put back as it was.
        path: of the file; a model of more than 2 GB gets a second one, ``PATH.data``.

    Returns:
        the largest difference of a logit from PyTorch's in that check.

    Raises:
        ValueError: no BERT classifier, one that is not in float32, a folder for a path, or
            packages that ``pip install 'obce[onnx]'`` brings are missing.
        RuntimeError: the logits differ by more than rounding; no file is written.
        OSError: the file cannot be written.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    if not isinstance(model, BertForSequenceClassification):
        raise ValueError(f"a BERT classifier is wanted, not {type(model).__name__}")
    if model.dtype != torch.float32:
        raise ValueError(f"the model is in {model.dtype}: export it in float32, model.float()")
    path, home = Path(path), model.device
    wrapped = _Logits(model)
    with _writing(path) as part:
        try:
            with evaluating(wrapped.to("cpu")), torch.no_grad(), _silence():
                _export(wrapped, part)
                batch = _padded_batch(model.config, 3, 11)
                expected = wrapped(**batch)
        finally:
            model.to(home)
        difference = float((OnnxClassifier(part)(**batch).logits - expected).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise RuntimeError(
                f"in onnxruntime the logits differ from PyTorch's by {difference:.3g}: "
                f"{path.name} is not written"
            )
    return difference


def _export(wrapped: _Logits, path: Path) -> None:
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
            output_names=["logits"],
            dynamic_shapes={name: axes for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:  # its message is a report of many lines
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise RuntimeError(f"PyTorch's exporter cannot take this model: {cause}") from error
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
    """An ONNX file that :func:`to_onnx` or :func:`quantize` has written, as a classifier.

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
        """``logits`` for ``input_ids``, ``attention_mask`` and ``token_type_ids``."""
        arrays = {name: inputs[name].cpu().numpy() for name in INPUTS}
        return SimpleNamespace(logits=torch.from_numpy(self.session.run(None, arrays)[0]))


def _config(text: str) -> BertConfig:
    values = json.loads(text)
    kind = ObceBertConfig if values.get("model_type") == MODEL_TYPE else BertConfig
    return kind.from_dict(values)

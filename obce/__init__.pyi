from . import (
    activations,
    base,
    explain,
    homology,
    layer_scores,
    modeling,
    pairs,
    plots,
    pruning,
    readings,
    repairs,
    running,
    scores,
    surgery,
    tasks,
    texts,
    units,
)
from .activations import Activations, collect
from .pruning import Plan, plan
from .readings import Readings, read
from .repairs import Fit, compress, repair
from .running.evaluation import evaluate, predict
from .running.export import OnnxClassifier, quantize, to_onnx
from .running.fidelity import compare
from .running.loading import load_bert, load_classifier, load_model, save_model
from .running.records import recorded
from .running.speed import benchmark
from .running.streaming import GapSummary, stream
from .running.training import finetune
from .scores import Scores, score
from .surgery import cut
from .units import count_multiply_adds, count_parameters

__version__: str

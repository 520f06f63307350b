"""Compress and explain BERT by the persistent homology of its neurons (OBCE, arXiv 2312.10702).

The way of the data: texts -> activations -> clouds -> H0 deaths -> scores -> plan -> compressed
model -> metrics.
"""

import transformers as _transformers

from obce import (
    activations,
    distributed,
    evaluation,
    export,
    glue,
    homology,
    modeling,
    pruning,
    scores,
    speed,
    streaming,
    surgery,
    training,
    units,
)
from obce.activations import Activations, collect
from obce.evaluation import evaluate, recorded
from obce.pruning import Plan, plan
from obce.scores import Scores, score
from obce.speed import benchmark
from obce.streaming import GapSummary, stream
from obce.surgery import compress
from obce.training import finetune, load_bert, load_classifier
from obce.units import count_multiply_adds, count_parameters

__version__ = "0.1.0"

# After ``import obce``, the Auto classes load compressed models.
_transformers.AutoConfig.register("obce_bert", modeling.ObceBertConfig, exist_ok=True)
for _name, _class in modeling.AUTO_CLASSES.items():
    getattr(_transformers, _name).register(modeling.ObceBertConfig, _class, exist_ok=True)

__all__ = [
    "Activations",
    "GapSummary",
    "Plan",
    "Scores",
    "activations",
    "benchmark",
    "collect",
    "compress",
    "count_multiply_adds",
    "count_parameters",
    "distributed",
    "evaluate",
    "evaluation",
    "export",
    "finetune",
    "glue",
    "homology",
    "load_bert",
    "load_classifier",
    "modeling",
    "plan",
    "pruning",
    "recorded",
    "score",
    "scores",
    "speed",
    "stream",
    "streaming",
    "surgery",
    "training",
    "units",
]

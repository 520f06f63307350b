"""The names that arguments may take and the numbers they have by default, each said once.

The functions, the jobs and the command line read them here. Nothing heavy is imported, so that the
command line can say what there is, or refuse what there is not, at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

KINDS = ("query", "key", "value", "attention_output", "intermediate", "output")

Cloud = Literal["mean", "texts", "tokens", "cls"]
CLOUDS: tuple[Cloud, ...] = get_args(Cloud)
DEFAULT_CLOUD: Cloud = "mean"

CloudScore = Literal["merge_radius", "total_persistence", "persistent_entropy", "std", "rms"]
CLOUD_SCORES: tuple[CloudScore, ...] = get_args(CloudScore)
LayerScore = Literal["persistence_share", "second_order", "unit_homology", "fisher"]
LAYER_SCORES: tuple[LayerScore, ...] = get_args(LayerScore)
Score = Literal[CloudScore, LayerScore, "random", "magnitude", "taylor"]
SCORES: tuple[Score, ...] = get_args(Score)
# Chosen on held-out rows of train (results/study/choices.toml), and of activations, which no other
# score of a layer can be read off, what the paper takes.
DEFAULT_SCORE: Score = "second_order"
DEFAULT_OF_CLOUDS: CloudScore = "merge_radius"
Metric = Literal["plain", "norm", "loss"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DEFAULT_METRIC: Metric = "norm"  # of the scores of a layer
DEFAULT_METRICS: dict[str, Metric] = {"second_order": "loss"}


def metric_of(score: str, metric: str | None) -> str:
    """The metric of a layer's score: the one that is named, or the score's own.

    >>> metric_of("second_order", None), metric_of("persistence_share", None)
    ('loss', 'norm')
    """
    return metric or DEFAULT_METRICS.get(score, DEFAULT_METRIC)


def of_layer(score: str, metric: str | None) -> bool:
    """Whether a score reads a layer as a whole: ``std`` and ``rms`` do so if a metric is named."""
    return score in LAYER_SCORES or (metric is not None and score in ("std", "rms"))


def judged_kinds(score: str, metric: str | None) -> tuple[str, ...]:
    """The kinds of units that a score gives numbers for."""
    if not of_layer(score, metric):
        return KINDS
    of_pairs = score == "fisher" or (score, metric_of(score, metric)) == ("second_order", "loss")
    return ("query", "key", *DEFAULT_KINDS) if of_pairs else DEFAULT_KINDS


def fitting(about: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The scope and the kinds of a plan that are not given, by what is said of its scores.

    In the metric of the loss the scores of all layers and kinds are in one unit: one budget for
    all. In trials on held-out rows of train that halved the divergence
    (``results/study/choices.toml``). Along a tree's edges units vary by another scale than over all
    points, which is that of pairs: there, a budget shared with pairs cut too many of them.
    """
    score, metric = about.get("score"), about.get("metric")
    if score is None or not of_layer(score, metric):
        return "layer", DEFAULT_KINDS
    if score != "fisher" and metric_of(score, metric) != "loss":
        return "layer", DEFAULT_KINDS
    return "global", DEFAULT_KINDS if about.get("covariance") == "tree" else judged_kinds(
        score, metric
    )


Covariance = Literal["points", "tree"]
COVARIANCES: tuple[Covariance, ...] = get_args(Covariance)
DEFAULT_COVARIANCE: Covariance = "points"
DEGREE = 2.0  # of persistence shares
ReadCloud = Literal["tokens", "mean", "cls"]
READ_CLOUDS: tuple[ReadCloud, ...] = get_args(ReadCloud)
READ_POINTS = 4096  # in a layer's cloud

Level = Literal["light", "medium", "severe"]
# percentiles: the three quartiles
LEVELS: dict[str, float] = dict(zip(get_args(Level), (25.0, 50.0, 75.0), strict=True))
Scope = Literal["layer", "network", "global"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# Of each layer's units of a kind, with scope "global". Most scores look at one unit at a time; they
# do not know that a layer's last units are all that carries its part of the stream, nor that a
# repair has then nothing left to refit. In trials without a floor some of them emptied layers.
# second_order knows, and is better without: [CLS] alone needs little of the last layer.
FLOOR = 0.1
FLOORS = {"second_order": 0.0}
Heads = Literal["equal", "free"]
HEADS: tuple[Heads, ...] = get_args(Heads)
# Chosen by a trial on SST-2 and STS-B: see the README.
DEFAULT_KINDS = ("value", "intermediate")
TOLERANCE = 0.001  # a budget is met to within 0.1 points

Repair = Literal["none", "constant", "least_squares"]
REPAIRS: tuple[Repair, ...] = get_args(Repair)
DEFAULT_REPAIR: Repair = "least_squares"  # of the command line; in Python the caller names one
# With few calibration texts, a smaller ridge fits noise: the error on held-out texts grows.
# With 2,000 texts, 1e-4 to 0.1 gave nearly the same accuracy.
RIDGE = 0.1
RIDGES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)  # from which ridge="auto" chooses
Weighting = Literal["none", "layer_norm"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
DEFAULT_WEIGHTING: Weighting = "layer_norm"

ANALYSIS_TEXTS = 768  # texts that a score reads, as in the study
ANALYSIS_LENGTH = 64  # tokens to which they are cut
REPAIR_TEXTS = 2048
BUCKETS = 512  # per unit, of a streamed analysis

LENGTH = 128  # tokens to which texts are cut when training and evaluating
EPOCHS = 3.0
LEARNING_RATE = 1e-4
BATCH_SIZE = 32
# Fine-tuning again with the dense model as teacher. Temperature 2 is DistilBERT's and CoFi's. Half
# of the loss is the labels': in trials (CoLA, one run) that was ahead of labels alone.
Teacher = Literal["dense"]
TEACHERS: tuple[Teacher, ...] = get_args(Teacher)
TEMPERATURE = 2.0
TEACHER_WEIGHT = 0.5
HIDDEN_WEIGHT = 0.0  # of the layers' outputs, which are compared only if asked for

# Explanations: a cloud with one mode is split, or a card without a story tells one, with at most
# this probability; and an effect counts from where Cohen (1988) calls a correlation large.
LEVEL = 0.05
EFFECT = 0.5
EXPLAIN_TEXTS = 512  # texts that a card reads
TOP = 10  # cards that a command writes
SILENCED_TEXTS = 128  # of these, run again without the unit

SHAPES = ((1, 32), (8, 128), (32, 128))  # texts and tokens of the batches that are timed
TIMING_ROUNDS = 3
DEVICES = ("auto", "cpu", "cuda")
EMBEDDED = "embedded"  # the name of the model that comes with obce[offline]

"""The command line: ``obce compress | analyze | explain | plan | finetune | evaluate | ...``.

Exit status 0, 2 for bad input (one clear line, no traceback) or 1 for what failed on the way.
"""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from safetensors import SafetensorError

from obce.base.launcher import started_by_launcher
from obce.base.settings import (
    ANALYSIS_TEXTS,
    BATCH_SIZE,
    BUCKETS,
    CLOUD_SCORES,
    DEFAULT_CLOUD,
    DEFAULT_COVARIANCE,
    DEFAULT_KINDS,
    DEFAULT_METRIC,
    DEFAULT_OF_CLOUDS,
    DEFAULT_REPAIR,
    DEFAULT_SCORE,
    DEFAULT_WEIGHTING,
    DEGREE,
    EMBEDDED,
    EPOCHS,
    EXPLAIN_TEXTS,
    FLOOR,
    HIDDEN_WEIGHT,
    LEARNING_RATE,
    READ_POINTS,
    REPAIR_TEXTS,
    RIDGE,
    SHAPES,
    SILENCED_TEXTS,
    TOP,
    Cloud,
    Covariance,
    Heads,
    Level,
    Metric,
    Repair,
    Scope,
    Score,
    Teacher,
    Weighting,
    of_layer,
)
from obce.base.signals import Interrupts, terminable
from obce.jobs.arguments import Analysis, Cut, Data, Tuning
from obce.tasks import TASKS, metric_name, metric_text
from obce.tasks.own import LABEL, TABLES, TEXT

app = typer.Typer(
    help="Compress and explain BERT by the persistent homology of its neurons.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        from obce import __version__

        typer.echo(f"obce {__version__}")
        raise typer.Exit()


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Compress and explain BERT by the persistent homology of its neurons."""


# Options that several commands share.
Model = Annotated[
    str, typer.Argument(help="A folder, a name on the Hub, or 'embedded'.", show_default=False)
]
Task = Annotated[str | None, typer.Option(help=f"One of {', '.join(TASKS)}.", show_default=False)]
TrainFile = Annotated[
    str | None,
    typer.Option(
        help=f"Your own labelled rows instead of a task: {', '.join(TABLES)}.", show_default=False
    ),
]
DevFile = Annotated[
    str | None, typer.Option(help="Rows of the same kind to evaluate on.", show_default=False)
]
TextColumn = Annotated[str, typer.Option(help="Column of the text.")]
PairColumn = Annotated[
    str | None,
    typer.Option(help="Column of a second text that is read with it.", show_default=False),
]
LabelColumn = Annotated[str, typer.Option(help="Column of the label.")]
Regression = Annotated[
    bool | None,
    typer.Option(
        "--regression/--no-regression",
        help="Whether the labels are scores; if left out, numbers with a decimal point are.",
        show_default=False,
    ),
]
LabelMap = Annotated[
    str | None,
    typer.Option(
        help="What the task calls the model's labels: POS=positive,NEG=negative.",
        show_default=False,
    ),
]
TextsFile = Annotated[
    str | None,
    typer.Option(
        help="Texts without labels instead of a task: one per line, or a column of a table.",
        show_default=False,
    ),
]
TextsField = Annotated[
    str | None,
    typer.Option(help=f"The column, where the file is a table; {TEXT} if left out.",
                 show_default=False),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(help="Folder to write to; out/MODEL-DATA if left out.", show_default=False),
]
GlueDir = Annotated[
    str | None,
    typer.Option(help="GLUE's official TSV files.", envvar="OBCE_GLUE_DIR", show_default=False),
]
TrainLimit = Annotated[
    int | None, typer.Option(help="Use so many training rows only, for everything.", min=1)
]
DevLimit = Annotated[int | None, typer.Option(help="Use so many dev rows only.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="Folder with the tokenizer of an ONNX file; that of the file, or the one beside it "
        "that is called as the file is, if left out.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress: neither bars nor lines.")]
Resume = Annotated[
    bool, typer.Option(help="Go on with an interrupted job and keep a finished one, or start over.")
]
Epochs = Annotated[float, typer.Option(help="Epochs of fine-tuning.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(help="Rows per step.", min=1)]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Train in bfloat16 where it matters for time (autocast).")
]
HiddenWeight = Annotated[
    float, typer.Option(help="Also follow the teacher's layers: weight of that loss.", min=0)
]
NewHead = Annotated[
    bool,
    typer.Option("--new-head", help="Draw the head anew: a model trained for other labels."),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Tokens kept of a text when training and evaluating.")
]
ScoreName = Annotated[Score, typer.Option(help="How units are scored.")]
CloudName = Annotated[Cloud, typer.Option(help="The point cloud that the score reads.")]
MetricName = Annotated[
    Metric | None,
    typer.Option(
        help="How a score of a layer weighs its units' outputs: as they are, by the weights that "
        "read them, or by what the loss feels of them; std and rms with one are scores of a layer.",
        show_default=f"loss for {DEFAULT_SCORE}, else {DEFAULT_METRIC}",
    ),
]
CovarianceName = Annotated[
    Covariance,
    typer.Option(help="Of second_order: over all points, or along the edges of the layer's tree."),
]
Degree = Annotated[float, typer.Option(help="Of persistence_share: 1 or more, or inf.")]
Points = Annotated[int, typer.Option(help="Tokens in a layer's cloud.", min=2)]
Texts = Annotated[int, typer.Option(help="Training texts that the score reads.", min=2)]
ScoreLength = Annotated[
    int | None, typer.Option(help="Tokens kept of a text when scoring; 64 if left out.")
]

KeepTotal = Annotated[str | None, typer.Option(help="Fraction of all parameters that stays.")]
KeepEncoder = Annotated[
    str | None, typer.Option(help="Fraction of the encoder's parameters that stays.")
]
Percentile = Annotated[
    str | None, typer.Option(help="Percentage of the units that goes, from 0 to 100.")
]
LevelName = Annotated[Level | None, typer.Option(help="Percentile 25, 50 or 75.")]
PlanFile = Annotated[Path | None, typer.Option(help="Cut to this plan.json, made before.")]
ScoresFile = Annotated[
    Path | None, typer.Option(help="Scores that obce analyze has written: nothing is analyzed.")
]
CutKinds = Annotated[
    str | None,
    typer.Option(
        help=f"Kinds of units that are cut; {','.join(DEFAULT_KINDS)} if left out, or all that a "
        "score in the metric loss judges.",
        show_default=False,
    ),
]
ScopeName = Annotated[
    Scope | None,
    typer.Option(
        help="Where units are compared: in each layer and kind, in a kind over the network, or all "
        "at once by score per parameter (global). If left out, global for scores in the metric "
        "loss, else layer.",
        show_default=False,
    ),
]
FloorShare = Annotated[
    float | None,
    typer.Option(
        help=f"Fraction of each layer's units of a kind that stays in any case, with --scope "
        f"global; {FLOOR:g} if left out, 0 for second_order.",
        show_default=False,
    ),
]
HeadsName = Annotated[
    Heads | None, typer.Option(help="Whether heads stay equally wide.", show_default=False)
]
MultipleOf = Annotated[
    int, typer.Option(help="Round widths of heads and layers to its multiples.", min=1)
]


def _out(out: Path | None, model: str, data: Data, more: str = "") -> Path:
    """The folder that is asked for, or one that is named after the model and the data."""
    data.check()
    return out or Path("out") / f"{Path(model).name}-{data.title}{more}"


def _label_map(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")]
    if not all(len(pair) == 2 and all(word.strip() for word in pair) for pair in pairs):
        raise ValueError(f"--label-map {text}: give MODEL=TASK,..., like POS=positive,NEG=negative")
    found = {old.strip(): new.strip() for old, new in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"--label-map {text}: one of the model's labels is there twice")
    return found


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_beside(context: typer.Context, why: str, *names: str) -> None:
    """Refuse options that would have no effect beside another one."""
    for name in names:
        if _given(context, name):
            raise ValueError(f"--{name.replace('_', '-')} has no effect {why}: leave it out")


def _check_score(context: typer.Context, score: Score, metric: Metric | None) -> None:
    """Refuse options that the score does not hear."""
    deaf = ["cloud"] if of_layer(score, metric) else ["metric", "points"]
    deaf += ["cloud"] if score not in CLOUD_SCORES else []
    deaf += ["degree"] if score != "persistence_share" else []
    deaf += ["covariance"] if score != "second_order" else []
    deaf += ["metric"] if score == "fisher" else []
    _refuse_beside(context, f"on score {score}", *deaf)


def _check_data(context: typer.Context, data: Data) -> None:
    """Refuse options that belong to another kind of data than the one that is given."""
    data.check()
    taken = {name for name in OF_FILES + OF_TEXTS + OF_TASKS if name in context.params}
    if data.task is not None:
        heard, why = OF_TASKS, "beside --task"
    elif data.labelled:
        heard, why = OF_FILES, "beside your own files"
    else:
        heard, why = OF_TEXTS, "beside --texts-file, which has no labels"
    # an environment variable is no option that was given, so OBCE_GLUE_DIR may stay
    _refuse_beside(context, why, *sorted(taken - set(heard)))


Names = tuple[str, ...]
OF_TASKS: Names = ("task", "glue_dir", "label_map", "dev_limit", "finetune_epochs", "epochs",
                   "learning_rate", "batch_size", "bf16", "new_head", "teacher",
                   "hidden_weight")  # fmt: skip
OF_FILES: Names = ("train_file", "dev_file", "text_column", "text_pair_column", "label_column",
                   "regression", *OF_TASKS[2:])  # fmt: skip
OF_TEXTS: Names = ("texts_file", "texts_field")


def _fraction(text: str | None, name: str) -> list[float]:
    """One number, or several with commas between."""
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} {text}: give a number, or several like 0.8,0.6") from None


def _kinds(text: str | None) -> list[str] | None:
    return None if text is None else [kind.strip() for kind in text.split(",")]


def _number_or_auto(text: str, name: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise ValueError(f"{name}={text!r:.40}: it must be auto, or a number") from None


def _targets(keep_total: str | None, keep_encoder: str | None, percentile: str | None,
             level: Level | None) -> dict[str, list[Any]]:  # fmt: skip
    """The targets that were given, each with its values."""
    found: dict[str, list[Any]] = {
        "keep_total": _fraction(keep_total, "keep-total"),
        "keep_encoder": _fraction(keep_encoder, "keep-encoder"),
        "percentile": _fraction(percentile, "percentile"),
        "level": [level] if level else [],
    }
    several = [name for name, values in found.items() if len(values) > 1]
    if several and sum(map(bool, found.values())) > 1:
        raise ValueError(
            f"several values of {several[0].replace('_', '-')} go with no other target"
        )
    return {name: values for name, values in found.items() if values}


def _say_if_shown_again(record: dict, out: Path) -> None:
    if record.get("nothing_was_run"):
        typer.echo(
            f"{out} holds this command's result already, which is shown here: nothing was run "
            "(--no-resume runs it anew)"
        )


def _say_remarks(record: dict, where: str = "") -> None:
    for remark in record.get("remarks", []):
        typer.echo(f"remark{where}: {remark}")


@app.command()
def analyze(
    context: typer.Context,
    model: Model,
    task: Task = None,
    out: Out = None,
    glue_dir: GlueDir = None,
    train_file: TrainFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    texts_file: TextsFile = None,
    texts_field: TextsField = None,
    score: ScoreName = DEFAULT_SCORE,
    cloud: Annotated[
        Cloud | None,
        typer.Option(
            help=f"The point cloud that the score reads; {DEFAULT_CLOUD} if left out, tokens with "
            "--stream.",
            show_default=False,
        ),
    ] = None,
    metric: MetricName = None,
    covariance: CovarianceName = DEFAULT_COVARIANCE,
    degree: Degree = DEGREE,
    points: Points = READ_POINTS,
    texts: Texts = ANALYSIS_TEXTS,
    score_length: ScoreLength = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Merge radius of the tokens cloud, in memory that texts do not fill."
        ),
    ] = False,
    buckets: Annotated[
        int, typer.Option(help="Buckets per unit, with --stream; a power of two.")
    ] = BUCKETS,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score every unit of a model over a task's or your own texts; save scores, figure, record."""
    data = Data(
        task, glue_dir, seed=seed, train_file=train_file, text_column=text_column,
        text_pair_column=text_pair_column, label_column=label_column, regression=regression,
        label_map=_label_map(label_map), texts_file=texts_file, texts_field=texts_field,
    )  # fmt: skip
    _check_data(context, data)
    if not stream:
        _refuse_beside(context, "without --stream", "buckets")
    elif not _given(context, "score"):
        score = DEFAULT_OF_CLOUDS
    _check_score(context, score, metric)
    from obce.jobs.steps import analyze_job
    from obce.running.tables import text_table

    out = _out(out, model, data, "-analysis")
    reading = cloud or ("tokens" if stream else DEFAULT_CLOUD)
    record = analyze_job(
        model,
        out,
        data,
        Analysis(
            score=score,
            cloud=reading,
            texts=texts,
            max_length=score_length,
            metric=metric,
            covariance=covariance,
            degree=degree,
            points=points,
            buckets=buckets if stream else None,
        ),
        device=device,
        progress=not quiet,
    )
    rows = [["kind", "layer", "least", "1st quartile", "median", "3rd quartile", "most"]]
    for kind, layers in record["quartiles"].items():
        for layer, values in layers.items():
            rows.append([kind, str(layer), *[f"{value:.4g}" for value in values]])
    typer.echo(text_table(rows))
    for i, done in enumerate(record.get("passes", ()), 1):
        typer.echo(
            f"pass {i}: {done['certified']:,} of {done['units']:,} units certified "
            f"with {done['buckets']:,} buckets"
        )
    if unproved := sum(map(len, record.get("uncertified", {}).values())):
        typer.echo(f"{unproved:,} units not certified: lower bounds; see uncertified in the record")
    typer.echo(f"scores, figure and record: {out}")


@app.command()
def plan(
    model: Model,
    scores: Annotated[
        Path, typer.Option(help="Scores that obce analyze has written.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="File to write (JSON).", show_default=False)],
    keep_total: KeepTotal = None,
    keep_encoder: KeepEncoder = None,
    percentile: Percentile = None,
    level: LevelName = None,
    kinds: CutKinds = None,
    scope: ScopeName = None,
    floor: FloorShare = None,
    heads: HeadsName = None,
    multiple_of: MultipleOf = 1,
) -> None:
    """Choose the units that stay, from scores; print the plan and save it for obce compress."""
    targets = _targets(keep_total, keep_encoder, percentile, level)
    if any(len(values) > 1 for values in targets.values()):
        raise ValueError("a plan is for one budget: obce compress takes several")
    cut = Cut(
        **{name: values[0] for name, values in targets.items()},
        kinds=_kinds(kinds),
        scope=scope,
        floor=floor,
        heads=heads,
        multiple_of=multiple_of,
        scores_file=str(scores),
    )
    from obce.jobs.steps import plan_job

    typer.echo(str(plan_job(model, out, cut)))
    typer.echo(f"plan: {out}")


@app.command()
def explain(
    context: typer.Context,
    model: Model,
    task: Task = None,
    out: Out = None,
    glue_dir: GlueDir = None,
    train_file: TrainFile = None,
    dev_file: DevFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    texts_file: TextsFile = None,
    texts_field: TextsField = None,
    layer: Annotated[int | None, typer.Option(help="Layer of the units, from 0.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of the units.")] = None,
    unit: Annotated[int | None, typer.Option(help="One unit, with --layer and --kind.")] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="Cards of so many units with the largest shares of their layer's persistence; "
            f"{TOP} if left out.",
            show_default=False,
            min=1,
        ),
    ] = None,
    cloud: Annotated[Cloud, typer.Option(help="What a point is.")] = "tokens",
    texts: Annotated[
        int, typer.Option(help="Training texts that are read.", min=2)
    ] = EXPLAIN_TEXTS,
    silenced: Annotated[
        int, typer.Option(help="Texts that are run again without each unit; 0 for none.", min=0)
    ] = SILENCED_TEXTS,
    max_length: ScoreLength = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Say what units do: their groups, what these follow, and what their silence does."""
    data = Data(
        task, glue_dir, seed=seed, train_file=train_file, dev_file=dev_file,
        text_column=text_column, text_pair_column=text_pair_column, label_column=label_column,
        regression=regression, label_map=_label_map(label_map), texts_file=texts_file,
        texts_field=texts_field,
    )  # fmt: skip
    _check_data(context, data)
    from obce.jobs.explanation import explain_job
    from obce.running.tables import text_table

    out = _out(out, model, data, "-explained")
    found = explain_job(
        model, out, data, layer=layer, kind=kind, unit=unit, top=top, cloud=cloud, texts=texts,
        silenced=silenced, max_length=max_length, device=device, progress=not quiet,
    )  # fmt: skip
    rows = [["unit", "share", "groups"]]
    rows += [[c.name, f"{100 * c.share:.2f} %", str(len(c.groups))] for c in found]
    table = text_table(rows).split("\n")
    typer.echo(table[0])
    for line, card in zip(table[1:], found, strict=True):
        typer.echo(f"{line}  {card.summary}")
    told = sum(bool(card.told) for card in found)
    typer.echo(f"{told} of {len(found)} units have a story")
    typer.echo(f"record and page: {out}")


@app.command()
def atlas(
    context: typer.Context,
    model: Model,
    task: Task = None,
    out: Out = None,
    glue_dir: GlueDir = None,
    train_file: TrainFile = None,
    dev_file: DevFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    texts_file: TextsFile = None,
    texts_field: TextsField = None,
    kinds: Annotated[str, typer.Option(help="Kinds of units.")] = ",".join(DEFAULT_KINDS),
    plan: Annotated[
        Path | None,
        typer.Option(help="Mark the units that this plan.json keeps.", show_default=False),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(help="A model to compare ranks with: the pretrained one.", show_default=False),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Another: the one that was cut to --plan.", show_default=False),
    ] = None,
    texts: Annotated[
        int, typer.Option(help="Training texts that are read.", min=2)
    ] = EXPLAIN_TEXTS,
    max_length: ScoreLength = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Chart all units of a model: a page without a server where each opens its card."""
    data = Data(
        task, glue_dir, seed=seed, train_file=train_file, dev_file=dev_file,
        text_column=text_column, text_pair_column=text_pair_column, label_column=label_column,
        regression=regression, label_map=_label_map(label_map), texts_file=texts_file,
        texts_field=texts_field,
    )  # fmt: skip
    _check_data(context, data)
    from obce.jobs.explanation import atlas_job
    from obce.running.tables import text_table

    out = _out(out, model, data, "-atlas")
    found = atlas_job(
        model, out, data, kinds=_kinds(kinds) or [], plan_file=None if plan is None else str(plan),
        before=before, after=after, texts=texts, max_length=max_length, device=device,
        progress=not quiet,
    )  # fmt: skip
    names = list(found.rows[0])
    rows = [names]
    for row in found.rows:
        values = [row[name] for name in names]
        rows.append([f"{v:.2f}" if isinstance(v, float) else "" if v is None else str(v)
                     for v in values])  # fmt: skip
    typer.echo(text_table(rows))
    typer.echo(f"page, cards, picture and record: {out}")


@app.command()
def finetune(
    context: typer.Context,
    model: Model,
    task: Task = None,
    out: Out = None,
    glue_dir: GlueDir = None,
    train_file: TrainFile = None,
    dev_file: DevFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    epochs: Epochs = EPOCHS,
    learning_rate: Rate = LEARNING_RATE,
    batch_size: Batch = BATCH_SIZE,
    max_length: MaxLength = None,
    bf16: Bf16 = False,
    new_head: NewHead = False,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Follow this fine-tuned model, too: a folder, or a name on the Hub.",
            show_default=False,
        ),
    ] = None,
    hidden_weight: HiddenWeight = HIDDEN_WEIGHT,
    train_limit: TrainLimit = None,
    dev_limit: DevLimit = None,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model, dense or compressed, on a task or your own rows; save and evaluate it."""
    data = Data(
        task, glue_dir, train_limit=train_limit, dev_limit=dev_limit, seed=seed,
        train_file=train_file, dev_file=dev_file, text_column=text_column,
        text_pair_column=text_pair_column, label_column=label_column, regression=regression,
        label_map=_label_map(label_map), new_head=new_head,
    )  # fmt: skip
    _check_data(context, data)
    if teacher is None:
        _refuse_beside(context, "without --teacher", "hidden_weight")
    from obce.jobs.steps import finetune_job

    out = _out(out, model, data, "-finetuned")
    record = finetune_job(
        model,
        out,
        data,
        Tuning(epochs, learning_rate, batch_size, max_length, bf16, teacher, hidden_weight),
        resume=resume,
        device=device,
        progress=not quiet,
    )
    typer.echo(_metrics(record))
    _say_remarks(record)
    _say_if_shown_again(record, out)
    typer.echo(f"model and record: {out}")


@app.command()
def evaluate(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="A folder, a name on the Hub, or a file that obce export has written.",
            show_default=False,
        ),
    ],
    task: Task = None,
    glue_dir: GlueDir = None,
    dev_file: DevFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    tokenizer: Tokenizer = None,
    split: Annotated[str, typer.Option(help="dev, or dev_mismatched for MNLI.")] = "dev",
    limit: DevLimit = None,
    max_length: MaxLength = None,
    batch_size: Batch = BATCH_SIZE,
    out: Annotated[Path | None, typer.Option(help="File for the record (JSON).")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Evaluate a fine-tuned model, dense, compressed or as ONNX, on a task or your own rows."""
    data = Data(
        task, glue_dir, dev_limit=limit, seed=seed, dev_file=dev_file, text_column=text_column,
        text_pair_column=text_pair_column, label_column=label_column, regression=regression,
        label_map=_label_map(label_map),
    )  # fmt: skip
    _check_data(context, data)
    from obce.jobs.steps import evaluate_job

    record = evaluate_job(
        model,
        data,
        split=split,
        max_length=max_length,
        batch_size=batch_size,
        tokenizer=tokenizer,
        out=out,
        device=device,
        progress=not quiet,
    )
    typer.echo(_metrics(record))
    _say_remarks(record)


def _metrics(record: dict) -> str:
    values = ", ".join(
        f"{metric_name(name)} {metric_text(name, value, 2)} %"
        for name, value in record["metrics"].items()
    )
    rows = f"{record['rows_used']:,} of {record['rows_official']:,} rows"
    return f"{record['task']} {record['split']} ({rows}): {values}"


@app.command()
def predict(
    context: typer.Context,
    model: Model,
    file: Annotated[
        str | None,
        typer.Option(help=f"Your own texts: {', '.join(TABLES)}.", show_default=False),
    ] = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            help="Column that names a row; its number, from 1, if left out.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="A GLUE task or ax, instead of a file: its submission is written.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="test, or test_mismatched for MNLI.")] = "test",
    glue_dir: GlueDir = None,
    label_map: LabelMap = None,
    tokenizer: Tokenizer = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Table to write, .csv or .tsv; predictions.csv, or the name that GLUE asks for, "
            "if left out.",
            show_default=False,
        ),
    ] = None,
    max_length: MaxLength = None,
    batch_size: Batch = BATCH_SIZE,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Write a fine-tuned model's predictions: of your own texts, or as GLUE's site takes them."""
    if (file is None) == (task is None):
        raise ValueError("say what to predict: either your own file, or a GLUE task")
    data = Data(task, glue_dir, text_column=text_column, text_pair_column=text_pair_column,
                label_map=_label_map(label_map))  # fmt: skip
    options: dict[str, Any] = {
        "max_length": max_length,
        "batch_size": batch_size,
        "device": device,
        "progress": not quiet,
    }
    if file is not None:
        _refuse_beside(context, "beside --file", "split", "glue_dir")
        from obce.jobs.predictions import predict_job

        out = out or Path("predictions.csv")
        done = predict_job(
            model, out, file, data, id_column=id_column, tokenizer=tokenizer, **options
        )
        typer.echo(f"{done['rows']:,} predictions: {out}")
        return
    _refuse_beside(context, "beside --task", "text_column", "text_pair_column", "id_column",
                   "tokenizer")  # fmt: skip
    data.check()
    from obce.jobs.predictions import submission_job, submission_name

    out = out or Path(submission_name(str(data.task), split))
    done = submission_job(model, out, data, split=split, **options)
    typer.echo(f"{done['rows']:,} of {done['rows_official']:,} rows of {data.task} {split}: {out}")


@app.command()
def compress(
    context: typer.Context,
    model: Model,
    task: Task = None,
    out: Out = None,
    keep_total: KeepTotal = None,
    keep_encoder: KeepEncoder = None,
    percentile: Percentile = None,
    level: LevelName = None,
    plan: PlanFile = None,
    scores: ScoresFile = None,
    kinds: CutKinds = None,
    scope: ScopeName = None,
    floor: FloorShare = None,
    heads: HeadsName = None,
    multiple_of: MultipleOf = 1,
    glue_dir: GlueDir = None,
    train_file: TrainFile = None,
    dev_file: DevFile = None,
    text_column: TextColumn = TEXT,
    text_pair_column: PairColumn = None,
    label_column: LabelColumn = LABEL,
    regression: Regression = None,
    label_map: LabelMap = None,
    texts_file: TextsFile = None,
    texts_field: TextsField = None,
    score: ScoreName = DEFAULT_SCORE,
    cloud: CloudName = DEFAULT_CLOUD,
    metric: MetricName = None,
    covariance: CovarianceName = DEFAULT_COVARIANCE,
    degree: Degree = DEGREE,
    points: Points = READ_POINTS,
    texts: Texts = ANALYSIS_TEXTS,
    score_length: ScoreLength = None,
    repair: Annotated[
        Repair, typer.Option(help="How the weights that stay are refitted.")
    ] = DEFAULT_REPAIR,
    repair_texts: Annotated[
        int, typer.Option(help="Training texts that the repair reads.", min=2)
    ] = REPAIR_TEXTS,
    ridge: Annotated[
        str,
        typer.Option(
            help="How strongly a refit keeps to the weights before it: a number, or auto for what "
            "is best on texts held out."
        ),
    ] = str(RIDGE),
    weighting: Annotated[
        Weighting,
        typer.Option(help="Tokens count by what the LayerNorm will make of their error, or alike."),
    ] = DEFAULT_WEIGHTING,
    finetune_epochs: Annotated[
        float, typer.Option(help="Fine-tune the compressed model for so many epochs.", min=0)
    ] = 0.0,
    teacher: Annotated[
        Teacher | None,
        typer.Option(help="Fine-tune again with the dense model as teacher.", show_default=False),
    ] = None,
    hidden_weight: HiddenWeight = HIDDEN_WEIGHT,
    epochs: Annotated[
        float, typer.Option(help="Epochs for the dense model, if it is not fine-tuned yet.")
    ] = EPOCHS,
    learning_rate: Rate = LEARNING_RATE,
    batch_size: Batch = BATCH_SIZE,
    max_length: MaxLength = None,
    bf16: Bf16 = False,
    new_head: NewHead = False,
    train_limit: TrainLimit = None,
    dev_limit: DevLimit = None,
    timing: Annotated[
        bool, typer.Option(help="Time the dense and the compressed model at the end.")
    ] = True,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """The main job: make a model smaller for a task or for your own data, and say what it costs.

    With labels: loads or fine-tunes the dense model, scores its units, cuts, repairs, fine-tunes
    again if asked, evaluates before and after. With --texts-file: scores, cuts, repairs, and
    compares with the dense model. Saves the model with its card, plan and record. Several budgets
    (--keep-encoder 0.8,0.6) share one dense model and one analysis; each gets a folder in --out.
    """
    data = Data(
        task, glue_dir, train_limit=train_limit, dev_limit=dev_limit, seed=seed,
        train_file=train_file, dev_file=dev_file, text_column=text_column,
        text_pair_column=text_pair_column, label_column=label_column, regression=regression,
        texts_file=texts_file, texts_field=texts_field, label_map=_label_map(label_map),
        new_head=new_head,
    )  # fmt: skip
    _check_data(context, data)
    if teacher is None:
        _refuse_beside(context, "without --teacher", "hidden_weight")
    if plan:
        _refuse_beside(context, "beside --plan, which says which units stay", *OF_PLANS, *OF_SCORES)
    if scores:
        _refuse_beside(context, "beside --scores, which were made before", *OF_SCORES)
    _check_score(context, score, metric)
    targets = _targets(keep_total, keep_encoder, percentile, level)
    several = [name for name, values in targets.items() if len(values) > 1]
    cut = Cut(
        **{name: values[0] for name, values in targets.items()},
        kinds=_kinds(kinds),
        scope=scope,
        floor=floor,
        heads=heads,
        multiple_of=multiple_of,
        plan_file=str(plan) if plan else None,
        scores_file=str(scores) if scores else None,
        repair=repair,
        repair_texts=repair_texts,
        ridge=_number_or_auto(ridge, "ridge"),
        weighting=weighting,
    )
    cut.check()
    out = _out(out, model, data)
    options: dict[str, Any] = {
        "tuning": Tuning(
            epochs, learning_rate, batch_size, max_length, bf16, teacher, hidden_weight
        ),
        "again": finetune_epochs,
        "resume": resume,
        "timing": timing,
        "device": device,
        "progress": not quiet,
    }
    analysis = Analysis(
        score=score, cloud=cloud, texts=texts, max_length=score_length, metric=metric,
        covariance=covariance, degree=degree, points=points,
    )  # fmt: skip
    if several:
        from obce.jobs.budgets import budget_rows, budgets_job
        from obce.running.tables import text_table

        target = several[0]
        record = budgets_job(model, out, data, analysis, cut, target, targets[target], **options)
        typer.echo(text_table(budget_rows(record)))
        for value, one in record["budgets"].items():
            _say_if_shown_again(one, out / f"{target.replace('_', '-')}-{value}")
        typer.echo(f"models, cards, plans and records: {out}")
        return
    from obce.jobs.compression import compress_job

    record = compress_job(model, out, data, analysis, cut, **options)
    _report(record, out)


OF_PLANS = ("kinds", "scope", "floor", "heads", "multiple_of", "scores")
OF_SCORES = ("score", "cloud", "metric", "covariance", "degree", "points")


def _report(record: dict, out: Path) -> None:
    from obce.jobs.card import stage_rows
    from obce.pruning import Plan
    from obce.running.records import stages_of
    from obce.running.tables import text_table

    typer.echo(str(Plan.load(out / "plan.json")))
    typer.echo()
    typer.echo(text_table(stage_rows(record)))
    for one in stages_of(record).values():
        _say_remarks(one, f" on the stage {one['stage']!r}")
    _say_if_shown_again(record, out)
    typer.echo(f"model, card, plan and record: {out}")


@app.command()
def benchmark(
    model: Model,
    against: Annotated[
        str | None, typer.Option(help="A second model, timed in turns with the first.")
    ] = None,
    shapes: Annotated[
        str, typer.Option(help="Batches that are timed, as texts x tokens.")
    ] = ",".join(f"{texts}x{tokens}" for texts, tokens in SHAPES),
    threads: Annotated[
        str | None, typer.Option(help="Threads of PyTorch, one number or several: 1,2.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 7,
    first_only: Annotated[
        bool,
        typer.Option(
            "--first-only", help="Time what a classifier needs: the last layer for [CLS] alone."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the record (JSON).")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Time a model's forward passes beside its multiply-adds, dense or compressed."""
    from obce.jobs.steps import benchmark_job

    record = benchmark_job(
        model,
        against,
        shapes=[_numbers(shape, "shapes", "x", 2) for shape in shapes.split(",")],
        threads=_numbers(threads, "threads", ",") if threads else None,
        repeats=repeats,
        first_only=first_only,
        out=out,
        device=device,
        progress=not quiet,
    )
    typer.echo(str(record))


def _numbers(text: str, name: str, separator: str, count: int | None = None) -> tuple[int, ...]:
    parts = text.strip().split(separator)
    if not all(part.strip().isdecimal() for part in parts) or len(parts) != (count or len(parts)):
        form = "texts x tokens, like 8x128" if count else "whole numbers, like 1,2"
        raise ValueError(f"--{name} {text}: give {form}")
    return tuple(map(int, parts))


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write (FILE.onnx).", show_default=False)],
    int8: Annotated[bool, typer.Option("--int8", help="Weights as bytes, integer sums.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model, dense or compressed, as an ONNX file that onnxruntime runs.

    The file is checked: run on padded texts, it gives what PyTorch gives.
    """
    from obce.base import distributed
    from obce.jobs.steps import export_job

    record = distributed.by_main(lambda: export_job(model, out, int8=int8, progress=not quiet))
    typer.echo(f"{out}: {record['weights']}, {record['bytes'] / 1e6:.1f} MB")
    typer.echo(
        f"{', '.join(record['outputs'])}: PyTorch's to {record['difference']:.0e} "
        f"(the largest is {record['largest_output']:.2g})"
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("obce-demo"),
    task: Annotated[str, typer.Option(help="A built-in task.")] = "mini-entailment",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """The whole way in minutes, offline: embedded model, built-in task, smaller model."""
    from obce import plots
    from obce.base import distributed
    from obce.jobs.compression import compress_job
    from obce.jobs.steps import evaluate_job
    from obce.running.records import stages_of

    record = compress_job(
        EMBEDDED,
        out,
        Data(task, seed=seed),
        Analysis(),
        Cut(keep_encoder=0.465, repair_texts=1024),
        tuning=Tuning(epochs=3.0),
        again=2.0,
        progress=not quiet,
    )
    distributed.by_main(lambda: plots.save(plots.stages(record), out / "stages.png"))
    _report(record, out)
    again = evaluate_job(str(out), Data(task, seed=seed), progress=False)
    stored = list(stages_of(record).values())[-1]
    if abs(again["value"] - stored["value"]) > 0.005:
        raise RuntimeError(f"the saved model gives {again['value']}, not {stored['value']}")
    typer.echo(f"loaded again from {out}: {_metrics(again)}")
    typer.echo(f"figures: {out / 'scores.png'}, {out / 'stages.png'}")


study = typer.Typer(help="Grids of runs from one small file, and their statistics.")
app.add_typer(study, name="study")

StudyFile = Annotated[Path, typer.Argument(help="The study (TOML).", show_default=False)]
StudyOut = Annotated[
    Path, typer.Option(help="Folder of the records, a file for each task and seed.")
]


@study.command("run")
def study_run(
    config: StudyFile,
    out: StudyOut,
    work: Annotated[
        Path, typer.Option(help="Folder of the dense models; finished ones are used again.")
    ],
    workers: Annotated[int, typer.Option(help="Processes side by side.", min=1)] = 1,
    limit: Annotated[
        int | None,
        typer.Option(help="Rows of train and dev, for a trial: its records stay apart.", min=2),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the cells again that have failed.")
    ] = False,
    glue_dir: GlueDir = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run the cells of a study that are left, each once.

    Killed, or started a second time beside the first, it goes on with what nobody has run yet.
    Each process has one thread.
    """
    from obce.study.config import load_study

    plan = load_study(config)
    if glue_dir:
        os.environ["OBCE_GLUE_DIR"] = glue_dir
    if workers > 1:
        from obce.study.workers import check_records, start_workers

        check_records(plan, out, limit)
        options = [str(config), "--out", str(out), "--work", str(work), "--device", device]
        options += ["--limit", str(limit)] if limit else []
        options += ["--retry-failed"] * retry_failed + ["--quiet"] * quiet
        status = start_workers(["study", "run", *options], workers)
        if status:
            raise RuntimeError("a worker has failed: see above, and obce study status")
        return
    from obce.jobs.progress import say
    from obce.study.workers import Worker, one_thread

    one_thread()
    worker = Worker(
        plan, out, work, limit=limit, retry_failed=retry_failed, device=device,
        say=lambda line: say(line, not quiet),
    )  # fmt: skip
    if not worker.run():
        raise RuntimeError("some cells have failed: obce study status names them")


@study.command("status")
def study_status(
    config: StudyFile,
    out: StudyOut,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say how far a study is: done, running, failed, left, and the time that is left."""
    import json

    from obce.running.tables import duration, text_table
    from obce.study.config import load_study
    from obce.study.status import COUNTS, status_of

    found = status_of(load_study(config), out)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    rows = [["task", "seed", *COUNTS]]
    rows += [[g["task"], str(g["seed"]), *(str(g[n]) for n in COUNTS)] for g in found["groups"]]
    rows.append(["all", "", *(str(found[name]) for name in COUNTS)])
    typer.echo(text_table(rows))
    for failure in found["failures"]:
        settings = ", ".join(f"{name} {value}" for name, value in failure["settings"].items())
        typer.echo(f"failed: {failure['task']} {failure['seed']}, {settings}: {failure['error']}")
    if found["seconds_left"] is not None and found["left"] + found["running"]:
        typer.echo(f"about {duration(found['seconds_left'])} left")


@study.command("report")
def study_report(
    out: Annotated[Path, typer.Argument(help="Folder of the records.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Tables and claims from the records alone, in seconds: no data and no model are needed."""
    import json

    from obce.study.report import report_of, report_text

    found = report_of(out)
    typer.echo(json.dumps(found, indent=1) if as_json else report_text(found))


# The base class of all of typer's errors about arguments, which typer does not export: it is taken
# from a class derived from it.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__base__)


def main() -> None:
    """Run the command line; the exit status is 0, 2 (bad input) or 1 (failed).

    Under ``torchrun`` all processes run it together. Process 0 alone prints; of an error, the
    process that meets it first prints the line.
    """
    warnings.filterwarnings("ignore")  # libraries' notices are not for the user of a command
    with terminable() as arrived:
        sys.exit(_run_by_launcher(arrived) if started_by_launcher() else _run(arrived))


def _run_by_launcher(arrived: Interrupts) -> int:
    from obce.base import distributed

    try:
        with distributed.joined(), contextlib.ExitStack() as stack:
            if not distributed.is_main():
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            return _run(arrived)
    except RuntimeError as error:
        return _fail(f"cannot reach the other processes: {error}", 1)


def _run(arrived: Interrupts) -> int:
    interrupted = "interrupted; the same command goes on where it stopped"
    try:
        # Typer turns Ctrl-C into the result 130, or into Abort, by its version.
        result = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
        return _fail(interrupted, 1) if result == 130 else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(interrupted, 1)
    except Exception as error:
        if arrived:  # the error came of it
            return _fail(interrupted, 1)
        if isinstance(error, UsageError):
            message = error.format_message().replace("Value error, ", "")  # typer's, of choices
            return _fail(f"{message} (--help lists what there is)", 2)
        if isinstance(error, ValueError):
            return _fail(str(error), 2)
        if isinstance(error, (OSError, RuntimeError, SafetensorError)):
            return _fail(str(error), 1)
        raise


def _fail(message: str, status: int) -> int:
    if _first_to_fail():
        line = textwrap.shorten(message, 1000, placeholder=" ...")  # what a broken file holds
        print(f"obce: {line}", file=sys.stderr, flush=True)
    return status


def _first_to_fail() -> bool:
    if not started_by_launcher():
        return True
    from obce.base import distributed

    return distributed.first_to_fail()


if __name__ == "__main__":
    main()

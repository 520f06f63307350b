"""The command line: ``obce analyze | compress | finetune | evaluate | benchmark | export | demo``.

Exit status 0, 2 for bad input (one clear line, no traceback) or 1 for what failed on the way.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from safetensors import SafetensorError

from obce.base.launcher import started_by_launcher
from obce.base.settings import (
    ANALYSIS_TEXTS,
    BATCH_SIZE,
    BUCKETS,
    CLOUDS,
    DEFAULT_CLOUD,
    DEFAULT_KINDS,
    DEFAULT_REPAIR,
    DEFAULT_SCORE,
    EMBEDDED,
    EPOCHS,
    HEADS,
    LEARNING_RATE,
    LEVELS,
    REPAIR_TEXTS,
    REPAIRS,
    RIDGE,
    SCOPES,
    SCORES,
    SHAPES,
)
from obce.base.signals import terminable
from obce.jobs.arguments import Analysis, Cut, Data, Tuning
from obce.tasks import METRICS, TASKS

app = typer.Typer(
    help="Compress and explain BERT by the persistent homology of its neurons.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _choice(name: str, values) -> type[Enum]:
    return Enum(name, {value: value for value in values}, type=str)


Score, Cloud, Repair = (
    _choice("Score", SCORES),
    _choice("Cloud", CLOUDS),
    _choice("Repair", REPAIRS),
)
Level, Scope, Heads = _choice("Level", LEVELS), _choice("Scope", SCOPES), _choice("Heads", HEADS)

# Options that several commands share.
Model = Annotated[
    str, typer.Argument(help="A folder, a name on the Hub, or 'embedded'.", show_default=False)
]
Task = Annotated[str, typer.Option(help=f"One of {', '.join(TASKS)}.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)]
GlueDir = Annotated[
    str | None,
    typer.Option(help="GLUE's official TSV files.", envvar="OBCE_GLUE_DIR", show_default=False),
]
TrainLimit = Annotated[int | None, typer.Option(help="Use so many training rows only.", min=1)]
DevLimit = Annotated[int | None, typer.Option(help="Use so many dev rows only.", min=1)]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Resume = Annotated[bool, typer.Option(help="Go on with an interrupted job, or start it over.")]
Epochs = Annotated[float, typer.Option(help="Epochs of fine-tuning.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(help="Rows per step.", min=1)]
MaxLength = Annotated[
    int | None, typer.Option(help="Tokens kept of a text when training and evaluating.")
]
ScoreName = Annotated[Score, typer.Option(help="How units are scored.")]
CloudName = Annotated[Cloud, typer.Option(help="The point cloud that the score reads.")]
Texts = Annotated[int, typer.Option(help="Training texts that the score reads.", min=2)]
ScoreLength = Annotated[
    int | None, typer.Option(help="Tokens kept of a text when scoring; 64 if left out.")
]

KeepTotal = Annotated[float | None, typer.Option(help="Fraction of all parameters that stays.")]
KeepEncoder = Annotated[
    float | None, typer.Option(help="Fraction of the encoder's parameters that stays.")
]
Percentile = Annotated[float | None, typer.Option(help="Percentage of the units that goes.")]
LevelName = Annotated[Level | None, typer.Option(help="Percentile 25, 50 or 75.")]
PlanFile = Annotated[Path | None, typer.Option(help="Cut to this plan.json, made before.")]
ScoresFile = Annotated[
    Path | None, typer.Option(help="Scores that obce analyze has written: nothing is analyzed.")
]
CutKinds = Annotated[str, typer.Option(help="Kinds of units that are cut.")]
ScopeName = Annotated[Scope, typer.Option(help="Where percentiles are taken.")]
HeadsName = Annotated[
    Heads | None, typer.Option(help="Whether heads stay equally wide.", show_default=False)
]
ALL_DEFAULT_KINDS = ",".join(DEFAULT_KINDS)
MultipleOf = Annotated[
    int, typer.Option(help="Round widths of heads and layers to its multiples.", min=1)
]


@app.command()
def analyze(
    model: Model,
    task: Task,
    out: Out,
    glue_dir: GlueDir = None,
    score: ScoreName = Score[DEFAULT_SCORE],
    cloud: Annotated[
        Cloud | None,
        typer.Option(
            help=f"The point cloud that the score reads; {DEFAULT_CLOUD} if left out, tokens with "
            "--stream.",
            show_default=False,
        ),
    ] = None,
    texts: Texts = ANALYSIS_TEXTS,
    score_length: ScoreLength = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Merge radius of the tokens cloud, in memory that texts do not fill."
        ),
    ] = False,
    buckets: Annotated[
        int, typer.Option(help="Per unit, with --stream; a power of two.")
    ] = BUCKETS,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score every unit of a model over a task's texts; save scores, figure and record."""
    from obce.jobs.steps import analyze_job
    from obce.running.tables import text_table

    reading = cloud.value if cloud else "tokens" if stream else DEFAULT_CLOUD
    record = analyze_job(
        model,
        out,
        Data(task, glue_dir, seed=seed),
        Analysis(
            score=score.value,
            cloud=reading,
            texts=texts,
            max_length=score_length,
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
    kinds: CutKinds = ALL_DEFAULT_KINDS,
    scope: ScopeName = Scope.layer,
    heads: HeadsName = None,
    multiple_of: MultipleOf = 1,
) -> None:
    """Choose the units that stay, from scores; print the plan and save it for obce compress."""
    from obce.jobs.steps import plan_job

    cut = Cut(
        keep_total=keep_total,
        keep_encoder=keep_encoder,
        percentile=percentile,
        level=level.value if level else None,
        kinds=[kind.strip() for kind in kinds.split(",")],
        scope=scope.value,
        heads=heads.value if heads else None,
        multiple_of=multiple_of,
        scores_file=str(scores),
    )
    typer.echo(str(plan_job(model, out, cut)))
    typer.echo(f"plan: {out}")


@app.command()
def finetune(
    model: Model,
    task: Task,
    out: Out,
    glue_dir: GlueDir = None,
    epochs: Epochs = EPOCHS,
    learning_rate: Rate = LEARNING_RATE,
    batch_size: Batch = BATCH_SIZE,
    max_length: MaxLength = None,
    train_limit: TrainLimit = None,
    dev_limit: DevLimit = None,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model, dense or compressed, on a task; save and evaluate it."""
    from obce.jobs.steps import finetune_job

    record = finetune_job(
        model,
        out,
        Data(task, glue_dir, train_limit, dev_limit, seed),
        Tuning(epochs, learning_rate, batch_size, max_length),
        resume=resume,
        device=device,
        progress=not quiet,
    )
    typer.echo(_metrics(record))
    typer.echo(f"model and record: {out}")


@app.command()
def evaluate(
    model: Model,
    task: Task,
    glue_dir: GlueDir = None,
    split: Annotated[str, typer.Option(help="dev, or dev_mismatched for MNLI.")] = "dev",
    limit: DevLimit = None,
    max_length: MaxLength = None,
    batch_size: Batch = BATCH_SIZE,
    out: Annotated[Path | None, typer.Option(help="File for the record (JSON).")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Evaluate a fine-tuned model, dense or compressed, on a task."""
    from obce.jobs.steps import evaluate_job

    record = evaluate_job(
        model,
        Data(task, glue_dir, dev_limit=limit, seed=seed),
        split=split,
        max_length=max_length,
        batch_size=batch_size,
        out=out,
        device=device,
        progress=not quiet,
    )
    typer.echo(_metrics(record))


def _metrics(record: dict) -> str:
    values = ", ".join(
        f"{METRICS[name]} {100 * value:.2f} %" for name, value in record["metrics"].items()
    )
    rows = f"{record['rows_used']:,} of {record['rows_official']:,} rows"
    return f"{record['task']} {record['split']} ({rows}): {values}"


@app.command()
def compress(
    model: Model,
    task: Task,
    out: Out,
    keep_total: KeepTotal = None,
    keep_encoder: KeepEncoder = None,
    percentile: Percentile = None,
    level: LevelName = None,
    plan: PlanFile = None,
    scores: ScoresFile = None,
    kinds: CutKinds = ALL_DEFAULT_KINDS,
    scope: ScopeName = Scope.layer,
    heads: HeadsName = None,
    multiple_of: MultipleOf = 1,
    glue_dir: GlueDir = None,
    score: ScoreName = Score[DEFAULT_SCORE],
    cloud: CloudName = Cloud[DEFAULT_CLOUD],
    texts: Texts = ANALYSIS_TEXTS,
    score_length: ScoreLength = None,
    repair: Annotated[Repair, typer.Option(help="How the rest is mended.")] = Repair[
        DEFAULT_REPAIR
    ],
    repair_texts: Annotated[int, typer.Option(help="Training texts for it.", min=2)] = REPAIR_TEXTS,
    ridge: Annotated[float, typer.Option(help="Pull towards the cut weights.")] = RIDGE,
    finetune_epochs: Annotated[
        float, typer.Option(help="Fine-tune the compressed model for so many epochs.", min=0)
    ] = 0.0,
    epochs: Annotated[
        float, typer.Option(help="Epochs for the dense model, if it is not fine-tuned yet.")
    ] = EPOCHS,
    learning_rate: Rate = LEARNING_RATE,
    batch_size: Batch = BATCH_SIZE,
    max_length: MaxLength = None,
    train_limit: TrainLimit = None,
    dev_limit: DevLimit = None,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """The main job: make a model smaller for a task, and say what it costs.

    Loads or fine-tunes the dense model, scores its units, cuts, repairs, fine-tunes again if
    asked, evaluates before and after, and saves the model with its card, plan and record.
    """
    from obce.jobs.compression import compress_job

    record = compress_job(
        model,
        out,
        Data(task, glue_dir, train_limit, dev_limit, seed),
        Analysis(score=score.value, cloud=cloud.value, texts=texts, max_length=score_length),
        Cut(
            keep_total=keep_total,
            keep_encoder=keep_encoder,
            percentile=percentile,
            level=level.value if level else None,
            kinds=[kind.strip() for kind in kinds.split(",")],
            scope=scope.value,
            heads=heads.value if heads else None,
            multiple_of=multiple_of,
            plan_file=str(plan) if plan else None,
            scores_file=str(scores) if scores else None,
            repair=repair.value,
            repair_texts=repair_texts,
            ridge=ridge,
        ),
        tuning=Tuning(epochs, learning_rate, batch_size, max_length),
        again=finetune_epochs,
        resume=resume,
        device=device,
        progress=not quiet,
    )
    _report(record, out)


def _report(record: dict, out: Path) -> None:
    from obce.jobs.card import stage_rows
    from obce.pruning import Plan
    from obce.running.tables import text_table

    typer.echo(str(Plan.load(out / "plan.json")))
    typer.echo()
    typer.echo(text_table(stage_rows(record)))
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
    """Write a fine-tuned model, dense or compressed, as an ONNX file that onnxruntime runs.

    The file is checked: run on padded texts, it gives the logits that PyTorch gives.
    """
    from obce.base import distributed
    from obce.jobs.steps import export_job

    record = distributed.by_main(lambda: export_job(model, out, int8=int8, progress=not quiet))
    typer.echo(f"{out}: {record['weights']}, {record['bytes'] / 1e6:.1f} MB")
    typer.echo(f"in float32 its logits are PyTorch's to {record['difference']:.0e}")


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


# All of typer's complaints about arguments; it names this base class nowhere in public.
UsageError = typer.BadParameter.__base__


def main() -> None:
    """Run the command line; the exit status is 0, 2 (bad input) or 1 (failed).

    Under ``torchrun`` all processes run it together. Process 0 alone prints; of an error, the
    process that meets it first prints the line.
    """
    warnings.filterwarnings("ignore")  # libraries' notices are not for the user of a command
    with terminable():
        sys.exit(_run_by_launcher() if started_by_launcher() else _run())


def _run_by_launcher() -> int:
    from obce.base import distributed

    try:
        with distributed.joined(), contextlib.ExitStack() as stack:
            if not distributed.is_main():
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            return _run()
    except RuntimeError as error:
        return _fail(f"cannot reach the other processes: {error}", 1)


def _run() -> int:
    interrupted = "interrupted; the same command goes on where it stopped"
    try:
        # Typer turns Ctrl-C into the result 130, or into Abort, by its version.
        result = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
        return _fail(interrupted, 1) if result == 130 else 0
    except UsageError as error:
        return _fail(f"{error.format_message()} (--help lists what there is)", 2)
    except ValueError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(interrupted, 1)
    except (OSError, RuntimeError, SafetensorError) as error:
        return _fail(str(error), 1)


def _fail(message: str, status: int) -> int:
    if _first_to_fail():
        print(f"obce: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


def _first_to_fail() -> bool:
    if not started_by_launcher():
        return True
    from obce.base import distributed

    return distributed.first_to_fail()


if __name__ == "__main__":
    main()

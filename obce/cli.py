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

import obce
from obce import card, distributed, jobs, plots, speed
from obce.activations import CLOUDS
from obce.evaluation import evaluate as evaluate_model
from obce.evaluation import save_record
from obce.glue import TASKS
from obce.pruning import DEFAULT_KINDS, LEVELS
from obce.scores import DEFAULT_CLOUD, SCORES
from obce.surgery import DEFAULT_RIDGE, REPAIRS
from obce.training import load_bert, load_classifier

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
Level, Scope, Heads = (
    _choice("Level", LEVELS),
    _choice("Scope", ("layer", "network")),
    _choice("Heads", ("equal", "free")),
)

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


@app.command()
def analyze(
    model: Model,
    task: Task,
    out: Out,
    glue_dir: GlueDir = None,
    score: ScoreName = Score.merge_radius,
    cloud: CloudName = Cloud[DEFAULT_CLOUD],
    texts: Texts = 512,
    score_length: ScoreLength = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score every unit of a model over a task's texts; save scores, figure and record."""
    record = jobs.analyze(
        model,
        out,
        jobs.Data(task, glue_dir, seed=seed),
        jobs.Analysis(score.value, cloud.value, texts, score_length),
        device=device,
        progress=not quiet,
    )
    rows = [["kind", "layer", "least", "1st quartile", "median", "3rd quartile", "most"]]
    for kind, layers in record["quartiles"].items():
        for layer, values in layers.items():
            rows.append([kind, str(layer), *[f"{value:.4g}" for value in values]])
    typer.echo(card.text_table(rows))
    typer.echo(f"scores, figure and record: {out}")


@app.command()
def finetune(
    model: Model,
    task: Task,
    out: Out,
    glue_dir: GlueDir = None,
    epochs: Epochs = jobs.Tuning.epochs,
    learning_rate: Rate = jobs.Tuning.learning_rate,
    batch_size: Batch = 32,
    max_length: MaxLength = None,
    train_limit: TrainLimit = None,
    dev_limit: DevLimit = None,
    seed: Seed = 0,
    resume: Resume = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model, dense or compressed, on a task; save and evaluate it."""
    record = jobs.finetune_job(
        model,
        out,
        jobs.Data(task, glue_dir, train_limit, dev_limit, seed),
        jobs.Tuning(epochs, learning_rate, batch_size, max_length),
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
    batch_size: Batch = 32,
    out: Annotated[Path | None, typer.Option(help="File for the record (JSON).")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Evaluate a fine-tuned model, dense or compressed, on a task."""
    classifier = load_classifier(model, task, seed)
    if not classifier.fine_tuned:
        raise ValueError(f"{model} has no head for {task}: run obce finetune first")
    record = evaluate_model(
        classifier.model,
        classifier.tokenizer,
        task,
        split=split,
        folder=glue_dir,
        limit=limit,
        seed=seed,
        max_length=max_length,
        batch_size=batch_size,
        device=device,
        progress=not quiet,
    )
    if out is not None:
        distributed.by_main(lambda: save_record(record, out))
    typer.echo(_metrics(record))


def _metrics(record: dict) -> str:
    values = ", ".join(
        f"{card.METRICS[name]} {100 * value:.2f} %" for name, value in record["metrics"].items()
    )
    rows = f"{record['rows_used']:,} of {record['rows_official']:,} rows"
    return f"{record['task']} {record['split']} ({rows}): {values}"


@app.command()
def compress(
    model: Model,
    task: Task,
    out: Out,
    keep_total: Annotated[
        float | None, typer.Option(help="Fraction of all parameters that stays.")
    ] = None,
    keep_encoder: Annotated[
        float | None, typer.Option(help="Fraction of the encoder's parameters that stays.")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Percentage of the units that goes.")
    ] = None,
    level: Annotated[Level | None, typer.Option(help="Percentile 25, 50 or 75.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan.json made before.")] = None,
    kinds: Annotated[str, typer.Option(help="Kinds of units that are cut.")] = ",".join(
        DEFAULT_KINDS
    ),
    scope: Annotated[Scope, typer.Option(help="Where percentiles are taken.")] = Scope.layer,
    heads: Annotated[
        Heads | None, typer.Option(help="Whether heads stay equally wide.", show_default=False)
    ] = None,
    multiple_of: Annotated[
        int, typer.Option(help="Round widths of heads and layers to its multiples.", min=1)
    ] = 1,
    glue_dir: GlueDir = None,
    score: ScoreName = Score.merge_radius,
    cloud: CloudName = Cloud[DEFAULT_CLOUD],
    texts: Texts = 512,
    score_length: ScoreLength = None,
    repair: Annotated[Repair, typer.Option(help="How the rest is mended.")] = Repair.least_squares,
    repair_texts: Annotated[int, typer.Option(help="Training texts for it.", min=2)] = 2048,
    ridge: Annotated[float, typer.Option(help="Pull towards the cut weights.")] = DEFAULT_RIDGE,
    finetune_epochs: Annotated[
        float, typer.Option(help="Fine-tune the compressed model for so many epochs.", min=0)
    ] = 0.0,
    epochs: Annotated[
        float, typer.Option(help="Epochs for the dense model, if it is not fine-tuned yet.")
    ] = 3.0,
    learning_rate: Rate = jobs.Tuning.learning_rate,
    batch_size: Batch = 32,
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
    record = jobs.compress_job(
        model,
        out,
        jobs.Data(task, glue_dir, train_limit, dev_limit, seed),
        jobs.Analysis(score.value, cloud.value, texts, score_length),
        jobs.Cut(
            keep_total,
            keep_encoder,
            percentile,
            level.value if level else None,
            [kind.strip() for kind in kinds.split(",")],
            scope.value,
            heads.value if heads else None,
            multiple_of,
            str(plan) if plan else None,
            repair.value,
            repair_texts,
            ridge,
        ),
        tuning=jobs.Tuning(epochs, learning_rate, batch_size, max_length),
        again=finetune_epochs,
        resume=resume,
        device=device,
        progress=not quiet,
    )
    _report(record, out)


def _report(record: dict, out: Path) -> None:
    typer.echo(str(obce.Plan.load(out / "plan.json")))
    typer.echo()
    typer.echo(card.text_table(card.stage_rows(record)))
    typer.echo(f"model, card, plan and record: {out}")


@app.command()
def benchmark(
    model: Model,
    against: Annotated[
        str | None, typer.Option(help="A second model, timed in turns with the first.")
    ] = None,
    shapes: Annotated[
        str, typer.Option(help="Batches that are timed, as texts x tokens.")
    ] = ",".join(f"{texts}x{tokens}" for texts, tokens in speed.SHAPES),
    threads: Annotated[
        str | None, typer.Option(help="Threads of PyTorch, one number or several: 1,2.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 7,
    out: Annotated[Path | None, typer.Option(help="File for the record (JSON).")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Time a model's forward passes beside its multiply-adds, dense or compressed."""
    record = speed.benchmark(
        load_bert(model)[0],
        against=load_bert(against)[0] if against else None,
        shapes=[_numbers(shape, "shapes", "x", 2) for shape in shapes.split(",")],
        threads=_numbers(threads, "threads", ",") if threads else None,
        repeats=repeats,
        device=device,
        progress=not quiet,
    )
    if out is not None:
        distributed.by_main(lambda: save_record(record, out))
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
    record = distributed.by_main(lambda: jobs.export_job(model, out, int8=int8, progress=not quiet))
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
    record = jobs.compress_job(
        "embedded",
        out,
        jobs.Data(task, seed=seed),
        jobs.Analysis(),
        jobs.Cut(keep_encoder=0.465, repair_texts=1024),
        tuning=jobs.Tuning(epochs=3.0),
        again=2.0,
        progress=not quiet,
    )
    distributed.by_main(lambda: plots.save(plots.stages(record), out / "stages.png"))
    _report(record, out)
    model, tokenizer, _ = load_classifier(str(out), task)
    again = evaluate_model(model, tokenizer, task, seed=seed, progress=False)
    stored = list(card.stages_of(record).values())[-1]
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
    try:
        with distributed.joined():
            status = _run()
    except RuntimeError as error:
        status = _fail(f"cannot reach the other processes: {error}", 1)
    sys.exit(status)


def _run() -> int:
    interrupted = "interrupted; the same command goes on where it stopped"
    with contextlib.ExitStack() as stack:
        if not distributed.is_main():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
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
    if distributed.first_to_fail():
        print(f"obce: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    main()

"""Make the README's tables and the studies' reports from the records in this folder:
python results/table.py (seconds; needs no model and no data)"""

from itertools import product
from pathlib import Path

from obce.base.files import replacing
from obce.book import glue
from obce.book.glue import on_glue
from obce.running.records import load_record, save_record
from obce.running.tables import markdown_table
from obce.study.report import report_of, short
from obce.tasks import METRICS

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
SIZES = {"46.5 %": "46.5 % of the encoder", "31.8 %": "31.8 % of the encoder"}


def which_score() -> str:
    """What the study says of scores, one row each, in Markdown."""
    return study_table("which_score", "at most 1,000 rows of dev", ("divergence", "metric kept"))


def choices() -> str:
    """What the choices of the default rest on. The dense models were trained on the rows that
    judge here, so that their metric says nothing."""
    return study_table("choices", "rows of train that no calibration has seen", ("divergence",))


def how_good() -> str:
    """The default recipe on each task: before and after another training, in Markdown."""
    report = load_record(HERE / "study_how_good.json")
    tasks = on_glue(report)
    names = {
        "repaired": "repaired",
        "labels": "trained again",
        "teacher": "with a teacher",
    }
    columns = list(product(glue.SIZES, names))
    rows = [
        [
            *("task: metric, %", "one answer", "dense", "dense, trained again"),
            *(f"{size} %, {names[way]}" for size, way in columns),
        ]
    ]
    for name, task in tasks.items():
        cells = [task[size].get(way) for size, way in columns]
        control = task.get("control")
        rows.append(
            [
                f"{name}: {METRICS[task['metric']]}",
                f"{task['one answer']:.1f}",
                f"{task['dense']:.1f}",
                f"{control['value']:.1f}" if control else "",
                *(f"{c['value']:.1f} ({c['divergence']:.3f})" if c else "" for c in cells),
            ]
        )
    shares = []
    for size, way in columns:
        ran = [task for task in tasks.values() if task["learned"] and way in task[size]]
        small, dense = sum(t[size][way]["value"] for t in ran), sum(t["dense"] for t in ran)
        shares.append(f"{100 * small / dense:.1f} % of {len(ran)}")
    rows.append(["kept of the mean, of how many tasks", "", "100 %", "", *shares])
    used = [f"{name} {t['train'][0]:,} of {t['train'][1]:,}" for name, t in tasks.items()]
    runs = {task["fine-tunings"] for task in tasks.values()}
    note = [
        "Each cell: the metric, and in brackets the divergence from the dense model (0: equal "
        "predictions). One answer: what the most common answer for all rows gets. Second order in "
        "the metric of the loss, one budget over the encoder, repaired with 768 training texts; "
        "trained again: two epochs over all training rows (one for the largest tasks), by the "
        "labels, or half by the labels and half by the dense model. "
        f"Fine-tunings per task: {' or '.join(map(str, sorted(runs)))}; with one, differences of a "
        "point or two say nothing.",
        f"The embedded MiniLM; all rows of dev. Training rows: {', '.join(used)}. Made from "
        "`results/study/how-good`.",
        *(f"Remark: {remark}." for remark in report["remarks"]),
    ]
    return "\n".join([markdown_table(rows), "", *note, ""])


def study_table(name: str, judged_on: str, columns: tuple[str, ...]) -> str:
    """The labels of a study that all tasks have, at both sizes."""
    report = load_record(HERE / f"study_{name}.json")
    budgets = {size: report["budgets"][name] for size, name in SIZES.items()}
    first = budgets["46.5 %"]
    complete = [
        label
        for label in first["order"]
        if first["scores"][label]["geometric_mean_divergence"] is not None
    ]
    rows = [["score", *(f"{column}, {size}" for column in columns for size in SIZES)]]
    for label in complete:
        found = [budget["scores"].get(label, {}) for budget in budgets.values()]
        means = [each.get("geometric_mean_divergence") for each in found]
        kept = [each.get("kept_of_all") for each in found]
        shown = {
            "divergence": ["" if mean is None else f"{mean:.3f}" for mean in means],
            "metric kept": ["" if share is None else f"{100 * share:.1f} %" for share in kept],
        }
        rows.append([label.replace("_", " "), *(cell for name in columns for cell in shown[name])])
    counted = [
        task
        for task, row in first["scores"][complete[0]]["per_task"].items()
        if row["log_divergence"] is not None
    ]
    left_out = [task for task in report["tasks"] if task not in counted]
    note = [
        f"Divergence: the geometric mean over {', '.join(counted)} of how far the predictions are "
        "from the dense model's (0: equal)"
        + "; metric kept: the mean over tasks by that of the dense models"
        * ("metric kept" in columns)
        + ". The embedded MiniLM, fine-tuned for each task, cut and refitted, with no training "
        f"after the cut; {judged_on}.",
        f"{report['cells']:,} models in all, {_seeds(first, complete[0])}; made from "
        f"`results/study/{name.replace('_', '-')}`.",
    ]
    if left_out:
        note.append(
            f"Left out of the divergence: {', '.join(left_out)}, whose dense model has learned "
            "nothing."
        )
    return "\n".join([markdown_table(rows), "", *note, ""])


def _seeds(budget: dict, label: str) -> str:
    seeds = {len(row["seeds"]) for row in budget["scores"][label]["per_task"].values()}
    least, most = min(seeds), max(seeds)
    return f"{least} to {most} fine-tunings per task" if least < most else (
        "one fine-tuning per task: single runs" if least == 1 else f"{least} fine-tunings per task"
    )  # fmt: skip


def readme(text: str) -> str:
    """A README with its tables made anew."""
    made = {
        "how-good": how_good,
        "which-score": which_score,
        "choices": choices,
    }
    for name, make in made.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, rest = text.split(begin)
        text = before + begin + make() + end + rest.split(end)[1]
    return text


def studies() -> None:
    """Of each study with records its report, which the book's pages read: study_NAME.json"""
    for folder in sorted({path.parent for path in (HERE / "study").glob("*/*-0.json")}):
        name = folder.name.replace("-", "_")
        report = report_of(folder)
        if name in BESIDE_THEIR_OWN:
            for budget in report["budgets"].values():
                budget["claims"] = []
        save_record(short(report), HERE / f"study_{name}.json")


# Each cell is set beside one other: comparisons of all pairs would be long and say nothing.
BESIDE_THEIR_OWN = ("choices", "open_choices", "null")


if __name__ == "__main__":
    studies()
    with replacing(README) as part:
        part.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")

"""Make the README's tables and the studies' reports from the records in this folder:
python results/table.py (seconds; needs no model and no data)"""

from itertools import product
from pathlib import Path

from obce.base.files import replacing
from obce.running.records import load_record, save_record, stages_of
from obce.running.tables import markdown_table
from obce.study.report import report_of, short
from obce.tasks import METRICS

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
TRIALS = ("sst2", "stsb")
TASKS = ("sst2", "cola", "mrpc", "stsb", "rte")


def section() -> str:
    """The table of results and what has to be known of it, in Markdown."""
    rows = [
        [
            *("task: metric, %", "dense", "cut", "cut, repaired", "and fine-tuned"),
            *("parameters, M", "encoder, M", "s / 1,000 texts"),
        ]
    ]
    notes = []
    for task in TASKS:
        record = load_record(HERE / f"compress_{task}.json")
        stages, sizes, timing = stages_of(record), record["parameters"], record["timing"]
        metrics = list(stages["dense"]["metrics"])
        rows.append(
            [
                f"{task}: {' / '.join(METRICS[metric] for metric in metrics)}",
                *(
                    " / ".join(f"{100 * stage['metrics'][metric]:.1f}" for metric in metrics)
                    for stage in stages.values()
                ),
                *(
                    " → ".join(f"{sizes[name][part] / 1e6:.2f}" for name in ("dense", "compressed"))
                    for part in ("total", "encoder")
                ),
                " → ".join(f"{timing[name]['median']:.2f}" for name in ("dense", "compressed")),
            ]
        )
        first, again, dense = record["tuning"], record["tuning_again"], stages["dense"]
        notes.append(
            f"{task} {first['rows_used']:,} of {first['rows_official']:,} training rows, "
            f"{first['epochs']:g} + {again['epochs']:g} epochs, {dense['rows_used']:,} dev rows"
        )
    plan, cpu, how = record["plan"], dense["environment"]["cpu"], timing["dense"]
    facts = [
        f"One run each, seed {dense['seed']}: differences of a point or two say nothing.",
        "The embedded 6-layer MiniLM, dev split.",
        f"Score: {plan['score'].replace('_', ' ')} of the `{plan['cloud']}` cloud over "
        f"{plan['texts']} training texts.",
        f"Kept: {plan['keep_encoder']:.1%} of the encoder, which are {plan['keep_total']:.1%} of "
        "this model (embeddings are half of it) and would be 58.47 % of BERT-base.",
        f"Cut: {' and '.join(plan['kinds'])} units.",
        f"Repair: least squares over {record['repair']['texts']:,} training texts, "
        f"ridge {record['arguments']['cut']['ridge']:g}.",
        f"Seconds: the median of {how['repeats']} passes over up to 1,000 dev texts sorted by "
        f"length, in batches of {how['batch_size']}, threads: {how['threads']}, {cpu}.",
        f"Rows, and epochs dense + after the repair: {'; '.join(notes)}.",
        "Made by `results/run.sh` from the records in `results/`.",
    ]
    return "\n".join([markdown_table(rows), "", *facts, ""])


def trial() -> str:
    """What the trial behind the defaults gave, one row per case, in Markdown."""
    records = [load_record(HERE / f"trial_{task}.json") for task in TRIALS]
    columns = [f"{task}, {stage}" for task in TRIALS for stage in ("cut", "cut, repaired")]
    rows = [["score, cloud", "kinds cut", "else", *columns]]
    for found in zip(*(record["rows"] for record in records), strict=True):
        case = found[0]["case"]
        assert all(row["case"] == case for row in found)
        extras = [f"{name} {case[name]}" for name in ("heads", "scope", "repair") if name in case]
        values = [next(iter(row[stage].values())) for row in found for stage in ("cut", "repaired")]
        rows.append(
            [
                ", ".join(filter(None, (case["score"], case.get("cloud")))).replace("_", " "),
                ", ".join(case["kinds"]) if len(case["kinds"]) < 6 else "all six",
                ", ".join(extras).replace("_", " "),
                *[f"{100 * value:.1f}" for value in values],
            ]
        )
    dense = [
        f"{task}: {100 * next(iter(record['dense'].values())):.1f}"
        for task, record in zip(TRIALS, records, strict=True)
    ]
    first = records[0]
    note = (
        f"Main metric on dev (%), {first['keep_encoder']:.1%} of the encoder kept, one run each, "
        f"no training after the cut; {first['score_texts']} texts scored, "
        f"{first['repair_texts']:,} for the repair. Dense: {', '.join(dense)}. "
        "Made by `results/trial.py`."
    )
    return "\n".join([markdown_table(rows), "", note, ""])


SIZES = {"46.5 %": "46.5 % of the encoder", "31.8 %": "31.8 % of the encoder"}


def which_score() -> str:
    """What the study says of scores, one row each, in Markdown."""
    return study_table("which_score", "at most 1,000 rows of dev", ("divergence", "metric kept"))


def choices() -> str:
    """What the choices of the default rest on. The dense models were trained on the rows that
    judge here, so that their metric says nothing."""
    return study_table("choices", "rows of train that no calibration has seen", ("divergence",))


RECIPE = "second_order loss{}, floor 0, kinds query,key,value,intermediate{}"
WAYS = {
    ", repaired": [RECIPE.format("", "")],
    ", trained again": [RECIPE.format(f", again {epochs}", "") for epochs in (1, 2)],
    ", with a teacher": [
        RECIPE.format(f", again {epochs}", ", teacher dense") for epochs in (1, 2)
    ],
}


def how_good() -> str:
    """The default recipe on each task: before and after another training, in Markdown."""
    report = load_record(HERE / "study_how_good.json")
    tables = [report["budgets"][name]["scores"] for name in SIZES.values()]
    (control,) = report["budgets"]["100 % of the encoder"]["scores"].values()
    rows = [
        [
            "task: metric, %",
            "dense",
            "dense, trained again",
            *(size + way for size in SIZES for way in WAYS),
        ]
    ]
    kept: list[list[tuple[float, float]]] = [[] for _ in rows[0][3:]]
    for row in report["rows"]:
        task, (dense,) = row["task"], row["dense"]["0"]
        cells = []
        for place, (table, way) in enumerate(product(tables, WAYS.values())):
            found = [
                scores["per_task"][task]
                for label, scores in table.items()
                if label in way and task in scores["per_task"]
            ]
            if not found:
                cells.append("")
                continue
            cells.append(f"{100 * found[0]['value']:.1f} ({found[0]['divergence']:.3f})")
            if found[0]["log_divergence"] is not None:
                kept[place].append((found[0]["value"], dense))
        metric = METRICS[row["metric"]]
        again = control["per_task"].get(task)
        again = "" if again is None else f"{100 * again['value']:.1f}"
        rows.append([f"{task}: {metric}", f"{100 * dense:.1f}", again, *cells])
    whole = max(map(len, kept))
    shares = [
        f"{100 * sum(value for value, _ in each) / sum(dense for _, dense in each):.1f} %"
        if len(each) == whole
        else ""
        for each in kept
    ]
    rows.append([f"kept of the mean of {whole} tasks", "100 %", "", *shares])
    used = [f"{row['task']} {row['train'][0]:,} of {row['train'][1]:,}" for row in report["rows"]]
    note = [
        "Each cell: the metric, and in brackets the divergence from the dense model (0: equal "
        "predictions). Second order in the metric of the loss, one budget over the encoder, "
        "repaired with 768 training texts; trained again: two epochs over all training rows, by "
        "the labels, or half by the labels and half by the dense model; the control is the dense "
        "model, trained again as well. One fine-tuning per task: "
        "differences of a point or two say nothing.",
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
        "results": section,
        "which-score": which_score,
        "choices": choices,
        "trial": trial,
    }
    for name, make in made.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, rest = text.split(begin)
        text = before + begin + make() + end + rest.split(end)[1]
    return text


def studies() -> None:
    """Of each study with records its report, which the book's pages read: study_NAME.json"""
    for folder in sorted(path.parent for path in (HERE / "study").glob("*/*-0.json")):
        name = folder.name.replace("-", "_")
        save_record(short(report_of(folder)), HERE / f"study_{name}.json")


if __name__ == "__main__":
    studies()
    with replacing(README) as part:
        part.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")

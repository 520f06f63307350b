"""Write the README's table of results from the records in this folder: python results/table.py"""

from pathlib import Path

from obce.card import METRICS, markdown_table, stages_of
from obce.evaluation import load_record
from obce.files import replacing

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results:begin -->\n", "<!-- results:end -->"
TASKS = ("sst2", "cola", "mrpc", "stsb", "rte")


def section() -> str:
    """The table and what has to be known of it, in Markdown."""
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
                " → ".join(
                    f"{timing[name]['median']:.2f}" for name in ("dense", "compressed")
                ),
            ]
        )
        first, again, dense = record["tuning"], record["tuning_again"], stages["dense"]
        notes.append(
            f"{task} {first['rows_used']:,} of {first['rows_official']:,} training rows, "
            f"{first['epochs']:g} + {again['epochs']:g} epochs, {dense['rows_used']:,} dev rows"
        )
    plan, environment, threads = record["plan"], dense["environment"], timing["dense"]["threads"]
    return f"""\
{markdown_table(rows)}

One run each with seed {dense["seed"]}: differences of a point or two say nothing. The embedded
6-layer MiniLM, dev split; score: {plan["score"].replace("_", " ")} of the `{plan["cloud"]}` cloud
over {plan["texts"]} training texts; {plan["keep_encoder"]:.1%} of the encoder kept, which are
{plan["keep_total"]:.1%} of this model (embeddings are half of it) and would be 58.5 % of BERT-base;
cut kinds: {", ".join(plan["kinds"])}; repair: least squares over
{record["repair"]["texts"]:,} training texts. Seconds: the median of
{timing["dense"]["repeats"]} passes over up to 1,000 dev texts sorted by length, batches of {timing["dense"]["batch_size"]},
{threads} thread{"s" * (threads > 1)} of {environment["cpu"]}. Rows and epochs (dense + after the
repair): {"; ".join(notes)}. Made by `results/run.sh` from the records in `results/`.
"""


def readme(text: str) -> str:
    """A README with its section of results made anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + section() + END + rest.split(END)[1]


if __name__ == "__main__":
    with replacing(README) as part:
        part.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")

"""What a compression job reports: a table for people, and the model card beside the model."""

from __future__ import annotations

from typing import Any

from obce.pruning import Plan
from obce.running.records import stages_of
from obce.running.tables import markdown_table
from obce.tasks import METRICS
from obce.units import KINDS


def stage_rows(record: dict[str, Any]) -> list[list[str]]:
    """Header and rows of the table of a compression job: one row per stage."""
    stages = list(stages_of(record).values())
    names = list(stages[0]["metrics"])
    rows = [["stage", *[METRICS[n] for n in names], "parameters", "encoder", "s / 1,000 texts"]]
    for stage in stages:
        timing = record["timing"]["dense" if stage["stage"] == "dense" else "compressed"]
        rows.append(
            [
                stage["stage"],
                *[f"{100 * stage['metrics'][name]:.1f}" for name in names],
                f"{stage['parameters']['total']:,}",
                f"{stage['parameters']['encoder']:,}",
                f"{timing['median']:.2f}",
            ]
        )
    return rows


def matrices(plan: Plan) -> str:
    """One line per matrix: ``[outputs, inputs]`` before and after."""
    reads = {"attention_output": "value", "output": "intermediate"}
    lines = []
    for layer in range(plan.shape.layers):
        kept = plan.counts(layer)
        for kind in KINDS:
            source = reads.get(kind)
            before = [plan.shape.width(kind), plan.shape.width(source or "output")]
            after = [kept[kind], kept[source] if source else plan.shape.hidden]
            lines.append(f"layer {layer:>2} {kind:<17} {before} → {after}")
    return "\n".join(lines)


def model_card(record: dict[str, Any], plan: Plan) -> str:
    """The README.md of a saved compressed model, in the Hub's format."""
    data, cut = record["arguments"]["data"], record["arguments"]["cut"]
    stages = list(stages_of(record).values())
    timing, info = record["timing"]["dense"], plan.info
    rows = f"{stages[0]['rows_used']:,} of the official {stages[0]['rows_official']:,}"
    environment = stages[0]["environment"]
    score = info.get("score", "a plan of its user's").replace("_", " ")
    if "cloud" in info:
        score += f" of the `{info['cloud']}` cloud"
    how = [f"Score: {score}."]
    if "corpus" in info:
        corpus = info["corpus"]
        how.append(
            f"Corpus: {corpus['texts']:,} training texts of {corpus['task']}, cut to "
            f"{info['max_length']} tokens each."
        )
    if "kinds" in info:
        how.append(
            f"Cut: {', '.join(info['kinds'])}; scope {info['scope']}, heads {info['heads']}."
        )
    how.append(f"Repair: {cut['repair'].replace('_', ' ')}")
    how[-1] += (
        f", over {record['repair']['texts']:,} training texts." if "repair" in record else "."
    )
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [obce, bert, pruning, persistent-homology]
---
# {record["model"]}, compressed for {record["task"]}

A BERT whose matrices were made smaller by [OBCE](https://arxiv.org/abs/2312.10702): units of low
score ({score}) were removed, their rows and columns with them. Nothing is masked.

| | dense | compressed | kept |
|---|---:|---:|---:|
| all parameters | {plan.dense.total:,} | {plan.parameters.total:,} | {plan.keep_total:.2%} |
| encoder | {plan.dense.encoder:,} | {plan.parameters.encoder:,} | {plan.keep_encoder:.2%} |

## Metrics

{data["task"]}, dev split, {rows} rows, seed {data["seed"]}, one run. All in percent.

{markdown_table(stage_rows(record))}

Order of steps: {stages[-1]["order"]}. Seconds per 1,000 texts: median of
{timing["repeats"]} passes, batches of {timing["batch_size"]}, device {timing["device"]}
({environment["cpu"]}), threads: {timing["threads"]}.

## How to load it

With `trust_remote_code=True`, or, where obce is installed, without it after `import obce`:

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
```

## What was cut, and how

{" ".join(how)}

```text
{plan}
```

Every matrix, `[outputs, inputs]`:

```text
{matrices(plan)}
```

`plan.json` lists the kept units, `scores.safetensors` their scores, `record.json` everything else.
"""

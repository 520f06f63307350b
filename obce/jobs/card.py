"""What a compression job reports: a table for people, and the model card beside the model."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from obce.base.settings import EMBEDDED
from obce.jobs.judges import Judge, LoadedModel
from obce.modeling import AUTO_CLASSES
from obce.pruning import Plan
from obce.running.checkpoints import embedded_folder
from obce.running.records import stages_of
from obce.running.tables import markdown_table
from obce.tasks import metric_name, metric_text
from obce.units import KINDS, READS

PIPELINES = {
    "": "feature-extraction",
    "token classification": "token-classification",
    "question answering": "question-answering",
    "masked words": "fill-mask",
    "pre-training": "fill-mask",
}
EMBEDDED_NAME = "sentence-transformers/all-MiniLM-L6-v2"  # on the Hub


def about(name: str, source: str, judge: Judge, small: LoadedModel) -> dict[str, Any]:
    """What the card says of the model beside its numbers."""
    head = getattr(small, "head", "sequence classification")
    encoder = getattr(small, "encoder", None)
    return {
        "base_model": EMBEDDED_NAME if name == EMBEDDED else None if Path(name).exists() else name,
        "license": _license(embedded_folder() if name == EMBEDDED else name),
        "datasets": ["nyu-mll/glue"] if judge.task is not None and judge.task.folder else [],
        "metrics": list(judge.task.metrics) if judge.task is not None else [],
        "head": head,
        "sentence_encoder": encoder is not None,
        "auto_class": next(
            auto for auto, cls in AUTO_CLASSES.items() if type(small.model).__name__ == cls.__name__
        ),
        "tokenizer_class": type(small.tokenizer).__name__,
    }


def _license(folder: str) -> str | None:
    """The licence that the dense model's own card states, if it lies here and does."""
    card = Path(folder) / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace").split("---")[1:2]
    found = re.search(r"^license:\s*([\w.+-]+)\s*$", "".join(head), re.MULTILINE)
    return found and found[1]


def stage_rows(record: dict[str, Any]) -> list[list[str]]:
    """Header and rows of the table of a compression job: one row per stage."""
    stages = list(stages_of(record).values())
    names = list(stages[-1]["metrics"])
    rows = [["stage", *map(metric_name, names), "parameters", "encoder"]]
    if "timing" in record:
        rows[0].append("s / 1,000 texts")
    for stage in stages:
        values = stage["metrics"]
        rows.append(
            [
                stage["stage"],
                *[metric_text(name, values[name]) if name in values else "–" for name in names],
                f"{stage['parameters']['total']:,}",
                f"{stage['parameters']['encoder']:,}",
            ]
        )
        if "timing" in record:
            timing = record["timing"]["dense" if stage["stage"] == "dense" else "compressed"]
            rows[-1].append(f"{timing['median']:.2f}")
    return rows


def matrices(plan: Plan) -> str:
    """One line per matrix: ``[outputs, inputs]`` before and after."""
    lines = []
    for layer in range(plan.shape.layers):
        kept = plan.counts(layer)
        for kind in KINDS:
            source = READS.get(kind)
            before = [plan.shape.width(kind), plan.shape.width(source or "output")]
            after = [kept[kind], kept[source] if source else plan.shape.hidden]
            lines.append(f"layer {layer:>2} {kind:<17} {before} → {after}")
    return "\n".join(lines)


def plain(text: object) -> str:
    """Somebody else's words as text: no HTML, no Markdown, one line."""
    line = " ".join(str(text).split())[:200]
    text = re.sub(r"([\\`*_\[\]()#|!~])", r"\\\1", html.escape(line, quote=False))
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")  # nor links of GitHub's kind


def model_card(record: dict[str, Any], plan: Plan) -> str:
    """The README.md of a saved compressed model, in the Hub's format."""
    title = f"{plain(record['model'])}, compressed for {plain(record['task'])}"
    return f"""---
{_metadata(record)}
---
# {title}

A BERT whose matrices were made smaller by [OBCE](https://arxiv.org/abs/2312.10702): units of low
score ({_score(plan)}) were removed, their rows and columns with them. Nothing is masked.

| | dense | compressed | kept |
|---|---:|---:|---:|
| all parameters | {plan.dense.total:,} | {plan.parameters.total:,} | {plan.keep_total:.2%} |
| encoder | {plan.dense.encoder:,} | {plan.parameters.encoder:,} | {plan.keep_encoder:.2%} |

## Metrics

{_judged(record)}

{markdown_table(stage_rows(record))}

{" ".join(_steps(record))}

## How to load it

{_loading(record)}

## What was cut, and how

{" ".join(_how(record, plan))}

```text
{plan}
```

Every matrix, `[outputs, inputs]`:

```text
{matrices(plan)}
```

`plan.json` lists the kept units, `scores.safetensors` their scores, `record.json` everything else.
"""


def _metadata(record: dict[str, Any]) -> str:
    """The Hub's fields, in YAML. Values are JSON, which YAML reads, so that others' words stay
    strings."""
    about = record["about"]
    encoder = about["sentence_encoder"]
    lines = [
        f"library_name: {'sentence-transformers' if encoder else 'transformers'}",
        f"pipeline_tag: {_pipeline(about)}",
        "tags: [obce, bert, pruning, persistent-homology]",
    ]
    for name in ("base_model", "license", "datasets", "metrics"):
        if about[name]:
            lines.append(f"{name}: {json.dumps(about[name], ensure_ascii=False)}")
    return "\n".join(lines)


def _pipeline(about: dict[str, Any]) -> str:
    if about["sentence_encoder"]:
        return "sentence-similarity"
    return PIPELINES.get(about["head"], "text-classification")


def _score(plan: Plan) -> str:
    """The plan's own words for its score, escaped: a plan may come from anyone."""
    info = plan.info
    score = plain(info.get("score", "a plan of its user's")).replace("\\_", " ")
    return f"{score} of the {plain(info['cloud'])} cloud" if "cloud" in info else score


def _judged(record: dict[str, Any]) -> str:
    stages = list(stages_of(record).values())
    first, last = stages[0], stages[-1]
    used, seed = f"{first['rows_used']:,}", first["seed"]
    if "fidelity" in last:
        return (
            f"Beside the dense model, without labels, on {used} texts of {plain(record['task'])} "
            f"that the repair has not seen, seed {seed}, one run. Errors and equal predictions in "
            "percent."
        )
    text = (
        f"{plain(record['task'])}, dev split, {used} of {first['rows_official']:,} rows, "
        f"seed {seed}, one run. All in percent."
    )
    remarks = [f"{each['stage']}: {plain(r)}" for each in stages for r in each.get("remarks", [])]
    return "\n\n".join([text, *[f"**Remark**, {remark}." for remark in remarks]])


def _steps(record: dict[str, Any]) -> list[str]:
    found = [f"Order of steps: {list(stages_of(record).values())[-1]['order']}."]
    for name, what in (("tuning", "The dense model"), ("tuning_again", "The compressed model")):
        if name in record:
            done = record[name]
            found.append(
                f"{what} was fine-tuned here: {done['rows_used']:,} training rows, "
                f"{done['epochs']:g} epochs, learning rate {done['learning_rate']:g}, batches of "
                f"{done['batch_size']}{', bfloat16' * done['bf16']}{_teaching(done)}."
            )
    if "tuning" not in record and "fidelity" not in list(stages_of(record).values())[-1]:
        found.append("The dense model came fine-tuned.")
    if "timing" in record:
        timing = record["timing"]["dense"]
        cpu = list(stages_of(record).values())[0]["environment"]["cpu"]
        found.append(
            f"Seconds per 1,000 texts: median of {timing['repeats']} passes, batches of "
            f"{timing['batch_size']}, device {timing['device']} ({cpu}), threads: "
            f"{timing['threads']}."
        )
    if alike := record.get("timing", {}).get("dense alike"):
        found.append(
            "A classifier reads the first token only, so the compressed model computes the last "
            f"layer's output for no other; the dense one, run in that way, takes "
            f"{alike['median']:.2f}."
        )
    return found


def _teaching(done: dict[str, Any]) -> str:
    if "teacher" not in done:
        return ""
    hidden = f", and its layers' outputs, weight {done['hidden_weight']:g}"
    return (
        f"; teacher: the dense model (its predictions at temperature {done['temperature']:g} make "
        f"{done['teacher_weight']:g} of the loss{hidden * (done['hidden_weight'] > 0)})"
    )


def _loading(record: dict[str, Any]) -> str:
    about, note = record["about"], ""
    if about["sentence_encoder"]:
        code = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".", trust_remote_code=True)  # this folder"""
    else:
        code = f"""from transformers import {about["auto_class"]}, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = {about["auto_class"]}.from_pretrained(folder, trust_remote_code=True)"""
        note = f"""

The tokenizer has no code of its own. `AutoTokenizer` reads the model's configuration first: left
without either, it asks whether to run the code, and any answer gives the same tokenizer.
`{about["tokenizer_class"]}.from_pretrained(folder)` does not ask."""
    return f"""With `trust_remote_code=True` (the code is `modeling.py` in this folder, which needs
transformers 5 or newer), or, where obce is installed, without it after `import obce`:

```python
{code}
```{note}"""


def _how(record: dict[str, Any], plan: Plan) -> list[str]:
    info, cut = plan.info, record["arguments"]["cut"]
    how = [f"Score: {_score(plan)}."]
    corpus = info.get("corpus")
    if isinstance(corpus, dict) and {"texts", "task"} <= set(corpus):
        how.append(f"Corpus: {plain(corpus['texts'])} training texts of {plain(corpus['task'])},")
    elif isinstance(corpus, dict) and {"texts", "file"} <= set(corpus):
        how.append(f"Corpus: {plain(corpus['texts'])} texts of {plain(corpus['file'])},")
    elif corpus is not None:
        how.append(f"Corpus: {plain(corpus)},")
    if corpus is not None:
        how[-1] += f" cut to {plain(info.get('max_length', 'unknown'))} tokens each."
    kinds = info.get("kinds")
    if isinstance(kinds, (list, tuple)):
        scope, heads = plain(info.get("scope")), plain(info.get("heads"))
        how.append(f"Cut: {', '.join(map(plain, kinds))}; scope {scope}, heads {heads}.")
    repair = f"Repair: {cut['repair'].replace('_', ' ')}"
    if "repair" in record:
        repair += f", over {record['repair']['texts']:,} texts"
        if "ridge" in cut:
            repair += f", ridge {cut['ridge']}"
    return [*how, f"{repair}."]

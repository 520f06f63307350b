"""What test_distributed.py runs in one process and, by torchrun, in two: the same program.

    torchrun --nproc-per-node 2 many_processes.py FOLDER

Each process writes what it found into FOLDER: arrays, and plain facts.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import sentiment, with_random_weights
from safetensors.numpy import save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

import obce
from obce import cli
from obce.activations import CLOUDS
from obce.base import distributed
from obce.running import training
from obce.running.loading import embedded_folder

# "zebra" is in one text only, whose batch one process alone runs.
BAD_WORD = "zebra"


def make_model(**changes):
    """Widths that two processes cannot halve: 21 = 3 heads of 7, and 41."""
    config = BertConfig(
        hidden_size=21, num_hidden_layers=2, num_attention_heads=3, intermediate_size=41,
        max_position_embeddings=64, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        **changes,
    )  # fmt: skip
    return with_random_weights(BertForSequenceClassification(config))


def line_of(work, *arguments, **options):
    """The line of the error that it raises, with the error's type."""
    try:
        work(*arguments, **options)
    except (Exception, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return None


def analysis(model, tokenizer, texts, arrays, facts):
    labels = [i % 2 for i in range(len(texts))]
    # so little memory that outputs are swapped in many pieces
    with obce.collect(model, tokenizer, texts, batch_size=3, memory=4000) as found:
        facts["order"] = found.order
        facts["bytes on disk"] = sum(f.stat().st_size for f in found._folder.iterdir())
        for cloud in CLOUDS:
            for name in ("merge_radius", "std"):
                for key, value in obce.score(found, name, cloud=cloud).items():
                    arrays[f"{name} {cloud} {key}"] = value
        for key, value in obce.score(found, "taylor", model=model, labels=labels).items():
            arrays[f"taylor {key}"] = value
        arrays["medians"] = found.medians(1, "intermediate")
        facts["held"] = [found.held("query").start, found.held("query").stop]
        facts["all units"] = line_of(found.cloud, 0, "query", "mean")
    # with so few buckets, some units need another pass
    scores = obce.stream(model, tokenizer, texts, batch_size=3, buckets=32, passes=3)
    facts["streamed"] = scores.info
    for key, value in scores.items():
        arrays[f"stream {key}"] = value
    with obce.collect(model, tokenizer, texts[:2], batch_size=2, clouds=["mean"]) as found:
        scores = obce.score(found)  # of one batch or two: a process may have none
    arrays["few"] = scores[1, "intermediate"]
    return scores


def surgery(model, tokenizer, texts, scores, arrays, facts):
    plan = obce.plan(model, scores, keep_encoder=0.6)
    for repair in ("constant", "least_squares"):
        small = obce.cut(model, plan)
        fits = obce.repair(
            model, small, plan, method=repair, texts=texts, tokenizer=tokenizer, batch_size=3
        )
        for name, tensor in small.state_dict().items():
            arrays[f"{repair} {name}"] = tensor.numpy().copy()
    facts["fits"] = [[fit.before, fit.after] for fit in fits]


def tuning(tokenizer, folder, arrays, facts):
    # 19 rows in steps of 8: in the last, two processes have two rows and one
    options = {
        "train": sentiment(19), "dev": sentiment(9, seed=1), "epochs": 2, "batch_size": 8,
        "progress": False, "device": "cpu", "learning_rate": 1e-3,
    }  # fmt: skip
    model = make_model()
    done = training.finetune(model, tokenizer, "sst2", output_dir=folder / "tuned", **options)
    facts["tuned"] = {"steps": done.steps, "loss": done.loss, "metrics": done.metrics}
    for name, tensor in model.state_dict().items():
        arrays[f"tuned {name}"] = tensor.numpy().copy()

    # Ctrl-C at one process, in step 2: all write one checkpoint, and all stop
    original = training._Monitor.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2 and distributed.rank() == distributed.size() - 1:
            self.interrupts.append(2)
        return original(self, args, state, control, **kwargs)

    training._Monitor.on_step_end = on_step_end
    again = folder / "resumed"
    facts["interrupted"] = line_of(
        training.finetune, make_model(), tokenizer, "sst2", output_dir=again, **options
    )
    training._Monitor.on_step_end = original
    model = make_model()
    done = training.finetune(model, tokenizer, "sst2", output_dir=again, **options)
    facts["resumed from"] = done.resumed_from
    for name, tensor in model.state_dict().items():
        arrays[f"resumed {name}"] = tensor.numpy().copy()
    facts["seven rows"] = line_of(
        training.finetune, make_model(), tokenizer, "sst2", output_dir=folder / "seven",
        **options | {"batch_size": 7},
    )  # fmt: skip


def failures(tokenizer, texts, folder, facts):
    model = make_model()
    word = tokenizer.convert_tokens_to_ids(BAD_WORD)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[word] = float("nan")
    facts["NaN outputs"] = line_of(
        obce.collect, model, tokenizer, [*texts, f"The {BAD_WORD} slept."], batch_size=3
    )
    train = sentiment(16).add_item({"sentence": f"a good {BAD_WORD}", "label": 1})
    facts["NaN loss"] = line_of(
        training.finetune, model, tokenizer, "sst2", train=train, output_dir=folder / "nan",
        batch_size=4, progress=False, device="cpu",
    )  # fmt: skip
    facts["left behind"] = distributed.by_main((folder / "nan" / "checkpoints").exists)

    def full():
        if distributed.is_main():
            raise OSError("no space left on device")

    facts["full disk"] = line_of(distributed.by_main, full)

    sys.argv[1:] = ["analyze", "embedded", "--task=mini-nonsense", f"--out={folder / 'out'}"]
    try:
        cli.main()
    except SystemExit as end:
        facts["status"] = end.code


def everything(folder: Path, texts) -> tuple[dict[str, np.ndarray], dict]:
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    model = make_model()
    arrays, facts = {}, {"process": distributed.rank(), "processes": distributed.size()}
    scores = analysis(model, tokenizer, texts, arrays, facts)
    surgery(model, tokenizer, texts, scores, arrays, facts)
    rows = sentiment(11)
    arrays["logits"] = obce.predict(
        model, tokenizer, rows, batch_size=3, progress=False, device="cpu"
    )
    tuning(tokenizer, folder, arrays, facts)
    failures(tokenizer, texts, folder, facts)
    return arrays, facts


if __name__ == "__main__":
    where = Path(sys.argv[1])
    corpus = json.loads((where / "texts.json").read_text(encoding="utf-8"))
    with distributed.joined():
        found = everything(where, corpus)
    save_file(found[0], where / f"{os.environ['RANK']}.safetensors")
    (where / f"{os.environ['RANK']}.json").write_text(json.dumps(found[1]), encoding="utf-8")

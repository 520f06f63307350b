"""The command line: what a user sees of the main job, and of bad input."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

import obce
from obce import tasks
from obce.jobs import arguments

TASK = "mini-sentiment"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


def tiny_model(tokenizer, target, layers=3, task=TASK, head=BertForSequenceClassification):
    """A tiny classifier with a head for the task, saved like any other."""
    torch.manual_seed(0)
    labels = dict(enumerate(tasks.get_task(task).labels))
    config = BertConfig(
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=64,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
    )
    head(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def dense(folder, tokenizer):
    return tiny_model(tokenizer, folder / "dense")


def altered(dense, target, change):
    """A copy of the dense model with changed weights."""
    model = AutoModelForSequenceClassification.from_pretrained(dense)
    with torch.no_grad():
        change(model.bert.encoder.layer[1])
    model.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / name).write_bytes((dense / name).read_bytes())
    return target


SMALL = ("--dev-limit", 40, "--train-limit", 64, "--texts", 32, "--repair-texts", 32, "--quiet")


def job(dense, out, *more):
    return ("compress", dense, "--task", TASK, "--out", out, *SMALL, *more)


def test_main_job_saves_a_smaller_model_with_card_plan_and_record(run, dense, folder):
    out = folder / "small"
    status, printed, errors = run(*job(dense, out, "--level", "medium", "--finetune-epochs", 0.5))
    assert (status, errors) == (0, "")
    record = json.loads((out / "record.json").read_text())
    plan = obce.Plan.load(out / "plan.json")
    small = AutoModelForSequenceClassification.from_pretrained(out)
    assert obce.count_parameters(small) == plan.parameters
    assert set(record["stages"]) == {"dense", "cut", "repaired", "finetuned"}
    for stage in record["stages"].values():
        assert (stage["rows_used"], stage["rows_official"], stage["complete"]) == (40, 400, False)
    assert record["stages"]["finetuned"]["order"] == (
        "analyze -> cut -> repair (least_squares) -> fine-tune"  # the dense model came fine-tuned
    )
    layer = plan.counts(0)
    card = (out / "README.md").read_text()
    assert f"[{plan.shape.intermediate}, {plan.shape.hidden}] → " in card
    assert f"[{layer['intermediate']}, {plan.shape.hidden}]" in card
    assert f"{plan.parameters.total:,}" in card and f"{plan.parameters.total:,}" in printed
    assert "`BertTokenizer.from_pretrained(folder)` does not ask" in card
    suffixes = {path.suffix for path in out.iterdir()}
    assert suffixes <= {".json", ".safetensors", ".md", ".py", ".png", ".txt"}
    assert not (out / "state.json").exists() and not (out / "repaired").exists()


def test_finished_job_is_not_computed_again(run, dense, folder):
    arguments = job(dense, folder / "once", "--percentile", 25, "--repair", "none")
    status, first, errors = run(*arguments)
    assert (status, errors) == (0, "") and "nothing was run" not in first
    record = folder / "once" / "record.json"
    before = record.stat().st_mtime_ns
    status, second, errors = run(*arguments)
    said = [line for line in second.splitlines() if line not in first.splitlines()]
    assert len(said) == 1 and "nothing was run (--no-resume runs it anew)" in said[0]
    assert record.stat().st_mtime_ns == before
    status, _, error = run(*job(dense, folder / "once", "--percentile", 26, "--repair", "none"))
    assert status == 2 and "cut.percentile (25.0 there, 26.0 here)" in error
    assert "nothing was run" not in run(*arguments, "--no-resume")[1]
    assert record.stat().st_mtime_ns > before


def test_a_model_changed_in_place_is_another(run, dense, folder, tmp_path):
    model = altered(dense, tmp_path / "model", lambda layer: None)
    arguments = job(model, tmp_path / "out", "--level", "light", "--repair", "none", "--no-timing")
    assert run(*arguments)[0] == 0
    assert "timing" not in json.loads((tmp_path / "out" / "record.json").read_text())
    assert "s / 1,000" not in (tmp_path / "out" / "README.md").read_text()
    altered(dense, model, lambda layer: layer.output.dense.weight.mul_(2))
    status, _, error = run(*arguments)
    assert status == 2 and "model_sha256" in error


def test_paths_that_end_alike_are_other_arguments(run, dense, tokenizer, folder, tmp_path):
    model = tiny_model(tokenizer, tmp_path / "elsewhere" / dense.name)
    for name, level in (("light", "light"), ("severe", "severe")):
        run(*job(dense, folder / name, "--level", level, "--repair", "none"))
    plans = [folder / name / "plan.json" for name in ("light", "severe")]
    out = tmp_path / "out"
    assert run(*job(dense, out, "--plan", plans[0], "--repair", "none"))[0] == 0
    for model_folder, plan in ((dense, plans[1]), (model, plans[0])):
        status, _, error = run(*job(model_folder, out, "--plan", plan, "--repair", "none"))
        assert status == 2 and "other arguments" in error
    text = (out / "record.json").read_text()
    assert str(tmp_path) not in text and str(folder) not in text  # nobody's disk


def test_plan_of_one_job_serves_another(run, dense, folder):
    run(*job(dense, folder / "a", "--level", "medium", "--repair", "none"))
    plan = folder / "a" / "plan.json"
    assert run(*job(dense, folder / "b", "--plan", plan, "--repair", "constant"))[0] == 0
    kept = [obce.Plan.load(folder / name / "plan.json").kept for name in "ab"]
    assert all((kept[0][key] == kept[1][key]).all() for key in kept[0])


def test_a_global_plan_keeps_to_its_floor(run, dense, tmp_path):
    scores = obce.score(None, "magnitude", model=obce.load_bert(dense).model)
    scores.save(tmp_path / "scores.safetensors")
    options = ("--scores", tmp_path / "scores.safetensors", "--out", tmp_path / "plan.json")
    chosen = ("--percentile", 100, "--scope", "global", "--floor", 0.25)
    assert run("plan", dense, *options, *chosen)[0] == 0
    plan = obce.Plan.load(tmp_path / "plan.json")
    assert plan.info["floor"] == 0.25
    assert {plan.counts(i)["value"] for i in range(3)} == {6}  # a quarter of 24
    assert {plan.counts(i)["intermediate"] for i in range(3)} == {10}


def test_mnli_is_judged_on_both_of_its_dev_sets(run, tokenizer, tmp_path):
    mnli = tmp_path / "glue" / "MNLI"
    mnli.mkdir(parents=True)
    labels = ("entailment", "neutral", "contradiction")
    rows = "".join(f"A dog runs {i}.\tIt moves.\t{labels[i % 3]}\n" for i in range(30))
    for name in ("train", "dev_matched", "dev_mismatched"):
        (mnli / f"{name}.tsv").write_text("sentence1\tsentence2\tgold_label\n" + rows)
    model = tiny_model(tokenizer, tmp_path / "model", task="mnli")
    options = ("--task", "mnli", "--glue-dir", tmp_path / "glue", "--level", "light")
    assert run(*job(model, tmp_path / "out", *options))[0] == 0
    stage = json.loads((tmp_path / "out" / "record.json").read_text())["stages"]["repaired"]
    assert set(stage["metrics"]) == {"accuracy", "accuracy_mismatched"}
    assert stage["dev_mismatched"]["rows_official"] == 9832
    assert "accuracy, mismatched" in (tmp_path / "out" / "README.md").read_text()
    (mnli / "dev_mismatched.tsv").unlink()  # noticed before anything is trained
    base = tiny_model(tokenizer, tmp_path / "base", head=BertModel)
    status, _, error = run(*job(base, tmp_path / "no", *options))
    assert status == 2 and "no dev_mismatched split" in error and not (tmp_path / "no").exists()


def test_a_line_for_each_stage_where_there_is_no_terminal(run, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = tiny_model(tokenizer, tmp_path / "base", head=BertModel)
    limits = ("--train-limit", 20, "--dev-limit", 10, "--epochs", 1)
    status, _, errors = run("compress", base, "--task", TASK, "--level", "light", *limits)
    assert status == 0 and "|" not in errors and "\r" not in errors  # no bars
    lines = errors.splitlines()
    assert lines[0].startswith(f"{TASK}: what is going to be done (")
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["fine-tune,", "1"], ["judge:", "dense"], ["analyze", "20"]
    ]  # fmt: skip
    done = ["fine-tune the dense model", "judge: dense", "analyze", "judge: cut", "repair",
            "judge: cut, repaired", "time both models"]  # fmt: skip
    assert [line.rpartition(": ")[0] for line in lines[-len(done) :]] == done
    record = json.loads((tmp_path / "out" / f"base-{TASK}" / "record.json").read_text())
    # a limit on training rows is one on all that is read of them
    assert record["repair"]["texts"] == record["plan"]["corpus"]["texts"] == 20


def test_analyze_finetune_and_evaluate(run, dense, folder):
    status, printed, _ = run(
        "analyze", dense, "--task", TASK, "--out", folder / "an", "--texts", 16, "--quiet"
    )
    assert status == 0 and "median" in printed
    scores = obce.Scores.load(folder / "an" / "scores.safetensors")
    assert scores.info["score"] == "second_order" and scores.info["texts"] == 16
    options = ("--task", TASK, "--dev-limit", 40, "--quiet")
    status, tuned, _ = run(
        "finetune", dense, *options, "--train-limit", 64, "--epochs", 1, "--out", folder / "ft"
    )
    assert status == 0
    status, again, _ = run(
        "evaluate", folder / "ft", "--task", TASK, "--limit", 40, "--quiet", "--out",
        folder / "record.json",
    )  # fmt: skip
    assert status == 0 and again.splitlines()[0] == tuned.splitlines()[0]
    assert json.loads((folder / "record.json").read_text())["rows_used"] == 40


@pytest.mark.long
def test_the_dense_model_teaches(run, dense, folder):
    out, tuned = folder / "taught", folder / "taught-alone"
    teaching = ("--teacher", "dense", "--hidden-weight", 0.1)
    command = job(dense, out, "--level", "medium", *teaching)
    status, _, error = run(*command)
    assert status == 2 and "finetune-epochs" in error and not out.exists()
    status, _, errors = run(*command, "--finetune-epochs", 0.5)
    assert (status, errors) == (0, "")
    record = json.loads((out / "record.json").read_text())
    assert record["stages"]["finetuned"]["order"].endswith("fine-tune (teacher: dense)")
    told = {"teacher": "dense", "teacher_weight": 0.5, "temperature": 2.0, "hidden_weight": 0.1}
    assert told.items() <= record["tuning_again"].items()
    assert told.items() <= record["arguments"]["tuning"].items()
    card = (out / "README.md").read_text()
    assert "the dense model (its predictions at temperature 2 make 0.5 of the loss" in card
    status, _, error = run(*job(dense, out, "--level", "medium", "--finetune-epochs", 0.5))
    assert status == 2 and "tuning.teacher" in error  # without a teacher it is another job

    alone = ("finetune", out, "--task", TASK, "--train-limit", 64, "--epochs", 1, "--quiet")
    status, _, errors = run(*alone, "--teacher", dense, "--out", tuned)
    assert (status, errors) == (0, "")
    record = json.loads((tuned / "finetune.json").read_text())
    assert record["arguments"]["teacher"].startswith("dense (sha256 ")
    status, _, error = run(*alone, "--teacher", "embedded", "--out", folder / "none")
    assert status == 2 and f"teacher embedded has no head for {TASK}" in error
    status, _, error = run(*alone, "--hidden-weight", 1, "--out", folder / "none")
    assert status == 2 and "--hidden-weight has no effect without --teacher" in error


def test_a_model_of_other_labels_starts_with_a_new_head(run, tokenizer, tmp_path):
    """For all three jobs that fine-tune: finetune, compress, and compress to several budgets."""
    model = tiny_model(tokenizer, tmp_path / "three", task="mini-entailment")
    options = ("--task", TASK, "--train-limit", 32, "--quiet", "--epochs", 1, "--bf16")
    status, _, error = run("finetune", model, *options, "--out", tmp_path / "none")
    assert status == 2 and "--new-head" in error and not (tmp_path / "none").exists()
    options += ("--new-head",)
    out = tmp_path / "tuned"
    assert run("finetune", model, *options, "--out", out)[0] == 0
    record = json.loads((out / "finetune.json").read_text())
    assert record["arguments"]["new_head"] and record["arguments"]["bf16"]
    assert obce.load_classifier(out, TASK).fine_tuned
    more = ("--score", "std", "--repair", "none", "--texts", 16, "--no-timing", "--out")
    for value in ("0.8", "0.8,0.5"):
        command = ("compress", model, *options, "--keep-encoder", value, *more, tmp_path / value)
        status, _, errors = run(*command)
        assert (status, errors) == (0, "")
    one = json.loads((tmp_path / "0.8" / "record.json").read_text())
    several = json.loads((tmp_path / "0.8,0.5" / "budgets.json").read_text())["budgets"]
    for found in (one, *several.values()):
        assert found["stages"]["dense"]["metrics"] == one["stages"]["dense"]["metrics"]
    assert "batches of 32, bfloat16" in (tmp_path / "0.8" / "README.md").read_text()
    status, _, error = run("compress", model, *options, "--label-map", "a=b", "--level", "light")
    assert status == 2 and "label-map" in error


def test_a_layers_scores_lead_to_a_smaller_model(run, dense, folder):
    options = ("--task", TASK, "--texts", 16, "--quiet", "--score", "persistence_share")
    status, printed, _ = run("analyze", dense, *options, "--out", folder / "layer")
    assert status == 0 and "value" in printed and "query" not in printed
    record = json.loads((folder / "layer" / "analysis.json").read_text())
    assert record["metric"] == "norm" and set(record["quartiles"]) == {"value", "intermediate"}
    status, printed, error = run(
        "compress", dense, "--task", TASK, "--scores", folder / "layer" / "scores.safetensors",
        "--level", "light", "--dev-limit", 20, "--repair-texts", 16, "--no-timing", "--quiet",
        "--out", folder / "layer-small",
    )  # fmt: skip
    assert status == 0, error
    plan = obce.Plan.load(folder / "layer-small" / "plan.json")
    assert plan.info["score"] == "persistence_share"


def test_analyze_streaming_says_what_it_certified(run, dense, folder):
    arguments = ("analyze", dense, "--task", TASK, "--texts", 16, "--quiet")
    stream = (*arguments, "--stream")
    status, printed, _ = run(*stream, "--buckets", 1024, "--out", folder / "stream")
    assert status == 0 and "units certified with 1,024 buckets" in printed
    record = json.loads((folder / "stream" / "analysis.json").read_text())
    assert record["cloud"] == "tokens" and record["tokens"] == record["corpus"]["tokens"]
    assert sum(done["certified"] for done in record["passes"]) == record["passes"][0]["units"]
    run(*arguments, "--score", "merge_radius", "--cloud", "tokens", "--out", folder / "exact")
    exact = json.loads((folder / "exact" / "analysis.json").read_text())
    assert record["quartiles"] == exact["quartiles"]
    _, printed, _ = run(*stream, "--buckets", 2, "--out", folder / "coarse")
    assert "units not certified: lower bounds" in printed
    for wrong, message in (
        (("--cloud", "mean"), "the merge_radius of the tokens cloud, not merge_radius of mean"),
        (("--score", "std"), "not std of tokens"),
        (("--buckets", 100), "power of two"),
    ):
        status, _, error = run(*stream, *wrong, "--out", folder / "wrong")
        assert status == 2 and message in error and not (folder / "wrong").exists()


BAD_ARGUMENTS = {
    "an unknown task": (["--task", "sst9", "--level", "light"], "unknown task 'sst9'"),
    "no target": ([], "exactly one of keep-total"),
    "two targets": (["--level", "light", "--percentile", 5], "exactly one of keep-total"),
    "a percentile beyond 100": (["--percentile", 101], "from 0 to 100"),
    "a fraction above one": (["--keep-total", 58.47], "above 0 and at most 1"),
    "a budget out of reach": (["--keep-total", 0.01], "cannot be reached"),
    "an unknown kind": (["--level", "light", "--kinds", "query,keys"], "unknown kind 'keys'"),
    "too wide a multiple": (["--level", "light", "--multiple-of", 999], "from 1 to 24"),
    "a negative ridge": (["--level", "light", "--ridge", -1], "that is not negative"),
    "a floor for layers": (
        ["--level", "light", "--scope", "layer", "--floor", 0.2],
        "floor=0.2 is for scope global",
    ),
    "half a pair": (["--level", "light", "--kinds", "query"], "go in pairs"),
    "a text longer than the model": (["--level", "light", "--score-length", 4000], "takes 3 to"),
    "training texts longer than the model": (["--level", "light", "--max-length", 4000], "4000"),
    "one text": (["--level", "light", "--texts", 1], "--texts"),
    "an unknown option": (["--levle", "light"], "No such option"),
    "an unknown score": (
        ["--level", "light", "--score", "foo"],
        "Invalid value for '--score': 'foo' is not one of 'merge_radius', ",
    ),
    "an unknown device": (["--level", "light", "--device", "tpu"], "tpu"),
    "no GLUE folder": (["--level", "light", "--glue-dir", "no/where", "--task", "rte"], "no/where"),
    "a plan that is none": (["--plan", __file__], "is not an obce plan"),
    "a share for a percentile": (["--percentile", 0.5], "write 50"),
    "a plan and kinds": (["--plan", "no.json", "--kinds", "value"], "--kinds has no effect beside"),
    "a plan and a score": (["--plan", "no.json", "--score", "std"], "--score has no effect beside"),
    "a layer's score of queries": (
        ["--level", "light", "--score", "persistence_share", "--kinds", "query,key,value"],
        "judges value and intermediate units only",
    ),
    "no number": (["--keep-total", "half"], "give a number, or several like 0.8,0.6"),
    "several of two": (["--keep-total", "0.5,0.6", "--percentile", 5], "no other target"),
    "a file beside a task": (["--level", "light", "--train-file", "a.csv"], "2 of these are given"),
    "a column beside a task": (["--level", "light", "--text-column", "a"], "beside --task"),
    "the diagnostic set": (["--level", "light", "--task", "ax"], "obce predict --task ax"),
    "labels that no model has": (
        ["--level", "light", "--label-map", "A=b"],
        "no label 'A'; it has",
    ),
    "a torn label map": (["--level", "light", "--label-map", "A"], "give MODEL=TASK"),
    "no plan": (["--plan", "no.json"], "no plan at no.json"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_give_one_line_and_status_2(run, dense, tmp_path, case):
    arguments, message = BAD_ARGUMENTS[case]
    status, _, error = run(*job(dense, tmp_path / "out", *arguments))
    assert status == 2 and message in error
    assert error.startswith("obce: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "out").exists()  # nothing was computed, least of all a training


def test_models_that_cannot_be_used(run, dense, tmp_path):
    def refused(model, message, *arguments):
        status, _, error = run(*job(model, tmp_path / "out", "--level", "light", *arguments))
        assert status == 2 and message in error and error.count("\n") == 1

    refused(tmp_path / "nothing", "nothing")
    other = tmp_path / "gpt"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    refused(other, "is no BERT")
    nan = altered(dense, tmp_path / "nan", lambda layer: layer.output.dense.weight.fill_(torch.nan))
    refused(nan, "NaN or infinite")
    status, _, error = run(
        "analyze", nan, "--task", TASK, "--texts", 16, "--quiet", "--out", tmp_path / "an"
    )
    assert status == 2 and "the model puts out values that are not finite" in error
    same = altered(
        dense, tmp_path / "same", lambda layer: layer.attention.self.query.weight.zero_()
    )
    assert run(*job(same, tmp_path / "one", "--level", "light"))[0] == 0  # one dull layer is fine
    run(*job(dense, tmp_path / "small", "--level", "light", "--repair", "none"))
    refused(tmp_path / "small", "compressed already")
    refused(dense, "labels", "--task", "mini-entailment")  # positive/negative is no entailment
    torn = tmp_path / "torn"
    torn.mkdir()
    for path in dense.iterdir():
        (torn / path.name).write_bytes(path.read_bytes())
    weights = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(torn, "cannot load")


def test_own_folder_is_not_written_to(run, dense, tmp_path):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in dense.iterdir())
    tune = ("finetune", dense, "--task", TASK, "--out", dense)
    for command in (job(dense, dense, "--level", "light"), tune):
        status, _, error = run(*command)
        assert status == 2 and "the model's own folder" in error
    assert sorted((path.name, path.stat().st_mtime_ns) for path in dense.iterdir()) == before
    (tmp_path / "file").touch()
    status, _, error = run(*job(dense, tmp_path / "file", "--level", "light"))
    assert status == 2 and "is a file" in error


def test_files_of_others_are_not_overwritten(run, dense, tmp_path):
    for name in ("README.md", "config.json"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("{}")
        status, _, error = run(*job(dense, out, "--level", "light"))
        assert status == 2 and f"a {name} that obce has not written" in error
        assert [path.name for path in out.iterdir()] == [name]
    done = tmp_path / "done"
    assert run(*job(dense, done, "--level", "light", "--repair", "none", "--no-timing"))[0] == 0
    (done / "README.md").write_text("# Mine\n")
    again = job(dense, done, "--level", "light", "--repair", "none", "--no-timing", "--no-resume")
    status, _, error = run(*again)
    assert status == 2 and "was not written by obce" in error
    assert (done / "README.md").read_text() == "# Mine\n"


def test_constant_outputs_have_nothing_to_choose_by(run, dense, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(dense)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.intermediate.dense.weight.zero_()
    model.save_pretrained(tmp_path / "constant")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "constant" / name).write_bytes((dense / name).read_bytes())
    status, _, error = run(
        *job(tmp_path / "constant", tmp_path / "out", "--level", "light", "--score", "merge_radius")
    )
    assert status == 2 and "intermediate units are 0: they say nothing" in error


def test_plan_for_another_model(run, dense, tokenizer, folder, tmp_path):
    run(*job(dense, folder / "p", "--level", "light", "--repair", "none"))
    other = tiny_model(tokenizer, tmp_path / "other", layers=2)
    plan = folder / "p" / "plan.json"
    status, _, error = run(*job(other, tmp_path / "out", "--plan", plan))
    assert status == 2 and "the plan is for a BERT with 3 layers" in error


def tsv(root, train):
    """A GLUE folder with SST-2 in it."""
    (root / "SST-2").mkdir(parents=True)
    (root / "SST-2" / "train.tsv").write_text("sentence\tlabel\n" + train)
    (root / "SST-2" / "dev.tsv").write_text("sentence\tlabel\nfine\t1\nbad\t0\n")
    return root


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", "has no rows"),
        ("good film\t1\n", "at least two texts are needed"),
        ("good film\t1\nbad film\n", "line 3: 1 columns where 2 are expected"),
        ("good film\t1\nbad film\t2\n", "line 3: unknown label '2'"),
    ],
)
def test_bad_corpora(run, dense, tmp_path, train, message):
    glue_dir = tsv(tmp_path / "glue", train)
    arguments = ("--task", "sst2", "--glue-dir", glue_dir, "--level", "light")
    status, _, error = run(*job(dense, tmp_path / "out", *arguments))
    assert status == 2 and message in error and error.count("\n") == 1


def start(*arguments, **options):
    command = [sys.executable, "-m", "obce.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.long
def test_full_disk_loses_nothing(dense, tmp_path):
    """A limit on the size of files stands for a disk that is full: writes fail half-way."""

    def few_bytes():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    out = tmp_path / "out"
    process = start(*job(dense, out, "--level", "light", "--repair", "none"), preexec_fn=few_bytes)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and error.count("\n") == 1 and error.startswith("obce: ")
    assert not (out / "record.json").exists() and not list(out.glob("*.part"))
    process = start(*job(dense, out, "--level", "light", "--repair", "none"))
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 0


@pytest.mark.long
def test_interrupted_job_goes_on(dense, tmp_path):
    out = tmp_path / "out"
    arguments = job(dense, out, "--level", "light", "--finetune-epochs", 100)
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    process = start(*arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while not (out / "finetuned" / "checkpoints").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error == "obce: interrupted; the same command goes on where it stopped\n"
    assert list((out / "finetuned" / "checkpoints").glob("checkpoint-*"))
    assert not (out / "record.json").exists() and not (out / "config.json").exists()
    state = json.loads((out / "state.json").read_text())
    assert set(state["stages"]) == {"dense", "cut", "repaired"}
    process = start(*arguments)
    assert process.communicate(timeout=300)[1] == "" and process.returncode == 0
    record = json.loads((out / "record.json").read_text())
    assert record["stages"]["cut"] == state["stages"]["cut"]  # taken over, not computed again


def test_version(run):
    assert run("--version") == (0, f"obce {obce.__version__}\n", "")


def test_help_and_no_arguments(run):
    assert run()[0] == 0
    for command in ("analyze", "compress", "finetune", "evaluate", "demo"):
        status, printed, _ = run(command, "--help")
        assert status == 0 and "Usage" in printed


def test_main_module_is_what_the_entry_point_runs():
    process = start("evaluate", "nowhere/at/all", "--task", "sst2", env=os.environ)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2 and error.count("\n") == 1


@pytest.mark.parametrize(
    "option", [("--keep-encoder", "7"), ("--keep-total", "-1"), ("--percentile", "101")]
)
def test_a_fraction_out_of_range_is_refused_before_anything_is_trained(option):
    cut = arguments.Cut(**{option[0][2:].replace("-", "_"): float(option[1])})
    with pytest.raises(ValueError, match=f"={option[1]}: it"):
        cut.check()


SHAPES = {"bert-base-uncased": (768, 12, 12, 3072), "bert-large-uncased": (1024, 24, 16, 4096)}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "keep"), [("bert-base-uncased", 0.5847), ("bert-large-uncased", 0.523)]
)
def test_the_readmes_commands_run_to_the_end_on_the_real_shapes(
    run, tokenizer, tmp_path, name, keep
):
    """From an encoder without a head, as the Hub has them, but with random weights."""
    hidden, layers, heads, inner = SHAPES[name]
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / name)
    out = tmp_path / "out"
    status, _, error = run(
        "compress", tmp_path / name, "--task", TASK, "--keep-total", keep, "--finetune-epochs", 1,
        "--train-limit", 32, "--dev-limit", 16, "--texts", 16, "--repair-texts", 32, "--out", out,
        "--quiet",
    )  # fmt: skip
    assert status == 0, error
    small = obce.load_model(str(out)).model
    assert obce.count_parameters(small.bert).total == pytest.approx(
        keep * obce.count_parameters(BertModel(config)).total, rel=0.003
    )

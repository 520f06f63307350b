"""The README's numbers are those of the records."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from obce import tasks
from obce.explain.rules import log_trees, most_errors
from obce.running.records import load_sealed

ROOT = Path(__file__).parent.parent


def script(name):
    """A script of results/ as a module."""
    spec = importlib.util.spec_from_file_location(f"made.{name}", ROOT / "results" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_readme_table_of_the_encoder_is_made_from_its_record():
    encoder = script("encoder")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert encoder.readme(text) == text
    record = encoder.load_record(encoder.RECORD) if encoder.RECORD.is_file() else {"rows": []}
    for row in record["rows"]:
        assert record["rows_used"] == record["rows_official"] == 1500
        assert abs(row["plan"]["keep_encoder"] - row["keep_encoder"]) <= 0.001
        assert row["repaired"]["spearman"] > row["cut"]["spearman"]
        assert row["model_sha256"] != record["model_sha256"]


def test_readme_table_is_made_from_the_records():
    table = script("table")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.readme(text) == text


def test_record_holds_what_a_reader_needs_to_judge_it():
    path = ROOT / "results" / "compress_sst2.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    task = tasks.get_task(record["task"])
    assert set(record["stages"]) == {"dense", "cut", "repaired", "finetuned"}
    for name, stage in record["stages"].items():
        assert stage["complete"] and stage["rows_used"] == task.rows["dev"]
        assert stage["metric"] == task.main_metric
        assert stage["value"] == stage["metrics"][task.main_metric]
        assert len(stage["model_sha256"]) == len(stage["data_sha256"]) == 64
        side = "dense" if name == "dense" else "compressed"
        assert stage["parameters"]["total"] == record["parameters"][side]["total"]
        commit = stage["environment"]["git_commit"]
        assert commit and not commit.endswith("-dirty")
    assert abs(record["plan"]["keep_encoder"] - 0.465) < 0.002
    assert len({stage["model_sha256"] for stage in record["stages"].values()}) == 4


def test_the_record_of_layers_is_as_it_was_written_and_adds_up():
    layers = script("layers")
    record = load_sealed(layers.RECORD)
    for model in record["models"].values():
        parts = model["of all that is felt"]
        whole = [span[0] for span in parts["whole layer"]]
        assert sum(whole) == pytest.approx(1, abs=0.05)  # medians of parts that add up to 1
        for score in model["scores"].values():
            for low, middle, high in zip(
                *(np.array(score[name]["value"])[:, 0] for name in
                  ("first quartile", "median", "third quartile")), strict=True,
            ):  # fmt: skip
                assert low <= middle <= high


def test_the_record_of_harm_is_as_it_was_written_and_holds_together():
    harm = script("harm")
    record = load_sealed(harm.RECORD)
    commit = record["environment"]["git_commit"]
    assert commit and not commit.endswith("-dirty")
    names = {name for name, _ in harm.CELLS}
    for task in harm.TASKS:
        rows = [r for r in record["gaps"] if (r["task"], r["of"]) == (task, "words")]
        assert {r["name"] for r in rows} == names | {"dense", "random head", "random weights"}
        (dense,) = (r for r in rows if r["name"] == "dense")
        assert dense["divergence"] == 0 and dense["against dense"]["value"] == 0
        for row in rows:
            low, high = row["gap"]["interval"]
            assert low <= row["gap"]["value"] <= high
            assert abs(row["gap"]["value"]) <= row["size"]  # a mean beside a mean of absolutes
            assert row["gap"]["p by Holm"] >= row["gap"]["p"]
    for row in record["exemplars"]:
        table = np.array(row["table"])
        assert table.sum() == row["texts"] and table[:, 0].sum() == row["about someone"]
        assert len(row["rows"]) == table[0].sum()
    for row in record["kinds"]:
        first, last = row["divergences"][0], row["divergences"][-1]
        for curves in row["curves"].values():  # nothing is extrapolated
            assert all(c["divergence"][0] <= first * 1.001 for c in curves)
            assert all(c["divergence"][-1] >= last * 0.999 for c in curves)


def test_measures_of_harm_by_hand():
    harm = script("harm")
    logs, sizes = np.log([0.01, 0.1, 1.0]), np.array([[0.2, 1.0], [0.4, 2.0], [0.8, 0.0]])
    np.testing.assert_allclose(harm.at(np.log([0.1]), logs, sizes), [0.4, 2.0])
    np.testing.assert_allclose(harm.at(np.log([0.01, 1.0]), logs, sizes), [0.5, 0.5])
    halfway = np.log([np.sqrt(0.1)])
    np.testing.assert_allclose(harm.at(halfway, logs, sizes), [0.6, 1.0])
    record = {
        "gaps": [
            {"task": "stsb", "keep_encoder": keep, "gap": {"p": p}, "against dense": {"p": p}}
            for keep, p in ((None, 0.01), (0.465, 0.04))
        ],
        "origins": [], "kinds": [], "exemplars": [{"odds ratio": {"p": 0.3}}],
    }  # fmt: skip
    harm.correct(record)
    assert [row["gap"]["p by Holm"] for row in record["gaps"]] == [0.02, 0.04]
    assert "p by Holm" not in record["gaps"][0]["against dense"]
    assert record["tests"] == {
        "gap": 2, "against dense": 1, "beside other swaps": 0, "origins": 0, "kinds": 0, "odds": 1,
    }  # fmt: skip
    assert harm.rounded({"a": [0.123456, 3], "b": None}) == {"a": [0.1235, 3], "b": None}


def test_measures_of_layers_by_hand():
    layers = script("layers")
    assert layers.effective(np.array([9, 1, 1, 1])) == pytest.approx(144 / 84)
    assert layers.ninety(np.array([1.0, 5.0, 0.0, 4.0])) == 0.5
    assert layers.span([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]
    run = {(layer, kind): np.array([1.0, 2.0]) for layer in range(6) for kind in ("query", "value")}
    run[5, "value"] = np.array([2.0, 97.0])
    every, apart = layers.of_total([run]), layers.of_total([run], without=1)
    assert every["value"][5][0] == pytest.approx(99 / 132, abs=1e-4)
    assert apart["value"][5][0] == pytest.approx(2 / 13, abs=1e-4)
    assert apart["whole layer"][5][0] == pytest.approx(3 / 13, abs=1e-4)


def test_bounds_in_the_record_of_rules_follow_from_its_counts():
    record = load_sealed(ROOT / "results" / "rules.json")
    for told in record["tasks"].values():
        texts = told["texts"]["grown on"]
        for model in told["models"].values():
            for row in (row for rows in model["families"].values() for row in rows):
                first = row["first draw"]
                low, high = first["exact interval"]
                assert low <= first["held out"] == row["fidelity"][0] <= high
                wrong = round((1 - first["grown on"]) * texts)
                most = most_errors(wrong, texts, log_trees(row["leaves"], row["questions"]))
                assert first["at least, by the bound"] == pytest.approx(1 - most, abs=1e-4)
                assert row["used"] <= row["leaves"]


def test_questions_of_the_rules_come_from_the_first_texts_alone():
    rules = script("rules")
    values = np.r_[np.arange(32.0), -1e6, 1e6][:, None]
    found = rules.steps(values, fixing=32)[:, 0]
    assert found[:32].tolist() == list(range(32)) and found[32:].tolist() == [0, 31]
    texts = [("a fine film", "a fine story")] * 5 + [("one", "other"), ("new words", "words")]
    has, questions = rules.words(texts, fixing=6)
    assert has[:, :-1].tolist() == [[1, 1, 1]] * 5 + [[0, 0, 0]] * 2  # film, fine, story
    assert questions == 3 + rules.CUTS - 1 and has[0, -1] > has[5, -1]


def test_differences_of_rules_are_of_the_same_texts():
    rules = script("rules")
    one = np.array([[1.0, 1, 0, 1], [1, 1, 1, 1]])
    told = rules.paired(one, one - [[0, 0, 0, 1]])
    assert told["difference"] == 0.25 and told["interval"][0] >= 0
    assert rules.paired(one, one)["p"] == 1
    record = {"families against each other": {"x": {"dense": {"p": 0.03}}}, "smaller - dense": {}}
    assert rules.correct({"a": record, "b": {**record, "smaller - dense": {"p": 0.9}}}) == 3


def test_the_record_of_what_holds_is_as_it_was_written_and_its_claims_follow_from_its_numbers():
    holds = script("holds")
    record = load_sealed(holds.RECORD)
    assert record["claims"] == holds.plain(holds.claims(record["tasks"]))
    assert {row["claim"] for row in record["claims"]} == {claim for claim, *_ in holds.CLAIMS}
    order = [row["verdict"] for row in record["claims"]]
    assert order == sorted(order, key=("does not hold", "can't tell", "holds").index)
    for found in record["tasks"].values():
        units = found["stories"]["units"]
        assert found["stories"]["F1 on B"]["value"] == pytest.approx(
            np.mean([unit["B"] for unit in units]), rel=1e-3
        )
        told = [row["of tokens"] for row in found["stories"]["of"]]
        assert len(units) == sum(min(count, holds.TOLD_UNITS) for count in told)


def test_verdicts_of_claims_by_hand():
    holds = script("holds")
    assert holds.verdict(0.2, 0.4, 0.1) == "holds"
    assert holds.verdict(0.02, 0.08, 0.1) == "does not hold"  # surely there, surely too small
    assert holds.verdict(-0.1, 0.3, 0.1) == "can't tell"
    assert holds.together(["holds", "can't tell"]) == "can't tell"
    assert holds.together(["holds", "does not hold", "can't tell"]) == "does not hold"
    assert holds.together(["holds", "holds"]) == "holds"


def test_measures_of_what_holds_by_hand():
    holds = script("holds")
    # a named token at place 1 beats one of its two rivals there; the other named ones have none
    named = np.array([True, False, False, True, True, False])
    place, size = np.array([1, 1, 1, 2, 3, 4]), np.array([2.0, 1.0, 3.0, 9.0, 9.0, 0.0])
    assert holds.above(named, place, size) is None, "too few comparisons"
    assert holds.above(np.tile(named, 3), np.tile(place, 3), np.tile(size, 3)) == 0.5
    outputs, classes = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 5.0]]), np.array([0, 0, 2])
    assert holds.probeless(outputs, classes).tolist() == [4.0, 3.0]
    logits = np.log([[0.9, 0.1], [0.3, 0.7]])
    moved = np.log([[0.6, 0.4], [0.2, 0.8]])
    assert holds.drop(logits, moved) == pytest.approx([0.3, -0.1])
    assert holds.drop(np.array([[1.0], [3.0]]), np.array([[2.0], [2.5]])).tolist() == [1.0, 0.5]
    drawn, wanted = np.array([[0, 1, 2], [2, 1, 1]]), np.array([1.0, 2.0, 4.0])
    answers = np.array([2.0, 4.0, 8.0])
    assert holds.judged(answers, wanted, drawn, regression=True) == pytest.approx([1.0, 1.0])
    assert holds.judged(np.array([1, 2, 0]), wanted, drawn, False) == pytest.approx([2 / 3, 2 / 3])


def test_counts_that_agree_by_chance_have_a_kappa_of_zero():
    holds = script("holds")

    def kappa(counts):
        rows = [{"layer": 0, "kind": "value", "counts": list(pair)} for pair in counts]
        return holds.kappa(rows, 0, 1)["value"]

    assert kappa([(1, 1), (2, 2), (1, 1), (2, 2)]) == 1
    assert kappa([(1, 1), (1, 2), (2, 1), (2, 2)]) == 0
    assert kappa([(1, 1), (1, 1)]) == 0, "nothing could have differed"


def test_groups_of_two_corpora_agree_by_either_method_and_two_normals_are_two():
    holds = script("holds")
    random = np.random.default_rng(0)
    values = np.r_[random.normal(0, 1, 300), random.normal(20, 2, 100)]
    for method in (holds.by_barcode, holds.by_mixture):
        count, labels = method(values)
        assert count == 2
        assert len(set(labels(np.array([-1.0, 0.5])))) == 1
        assert len(set(labels(np.array([0.0, 20.0])))) == 2
    assert [method(values[:300])[0] for method in (holds.by_barcode, holds.by_mixture)] == [1, 1]


def test_the_record_of_the_atlas_is_as_it_was_written_and_adds_up():
    atlas = script("atlas")
    record = load_sealed(atlas.RECORD)
    assert record["bytes of the page"] < 3e6 and min(record["seconds to open the page"]) < 1
    told = kept = 0
    for row in record["charts"]:
        signs = {name: np.array([*said]) == "1" for name, said in row["by share"].items()}
        assert {len(said) for said in signs.values()} == {row["units"]}
        for name, sign in (("kept", "kept"), ("with a story", "told"), ("several groups", "split")):
            assert signs[sign].mean() == pytest.approx(row[name])
        assert row["persistence kept"] <= row["persistence kept, at most"] + 1e-9
        told, kept = told + signs["told"].sum(), kept + (signs["told"] & signs["kept"]).sum()
    every = [found["all"] for found in record["kept more than"].values()]
    assert [(row["stories"], row["kept"]) for row in every] == 2 * [(told, kept)]
    about = record["by subject"].values()
    assert (sum(r["units"] for r in about), sum(r["kept"] for r in about)) == (told, kept)


def test_measures_of_the_atlas_by_hand():
    atlas = script("atlas")
    told, kept = np.array([1, 0, 1, 0, 0, 0, 1, 1]) == 1, np.array([1, 1, 0, 0, 0, 0, 1, 0]) == 1
    stories = np.where(told, "the label a", "").tolist()
    stories[7] = "late in the text"
    chart = atlas.explain.Chart(
        0, "value", np.arange(8, 0, -1) / 36, np.ones(8), stories, np.zeros(8), kept
    )
    assert atlas.tables([chart], 2, bool).tolist() == [[[1, 1], [1, 1]], [[1, 1], [0, 2]]]
    assert atlas.tables([chart], 1, lambda story: "label" in story).tolist() == [[[2, 1], [1, 3]]]
    # gaps of 0 and 1/2, of equal weight
    assert atlas.difference(atlas.tables([chart], 2, bool)) == pytest.approx(25)
    found = atlas.compared(30 * [chart], 2)
    assert (found["stories"], found["kept"], found["kept blindly"]) == (120, 60, 45)
    assert found["points more"] == 25 and found["p"] < 0.01
    low, high = found["points more, 95 %"]
    assert 0 < low < 25 < high < 50 and found["kept blindly, 95 %"][1] < 60
    assert atlas.lost([chart])["lost"] == 1, "late in the text is told by one unit, which goes"
    assert atlas.by_subject([chart])["the label"] == {
        "units": 3, "kept": 2, "kept blindly": 1.1, "layers": {"0": 3}
    }  # fmt: skip

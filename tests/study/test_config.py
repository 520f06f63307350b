"""A study's file: what it means, and what is refused before anything runs."""

from pathlib import Path

import pytest

from obce.study.config import SETTINGS, Cell, heard, load_study, parse_study

STUDIES = sorted((Path(__file__).parents[2] / "results" / "study").glob("*.toml"))
GRID = {"tasks": ["mini-sentiment"], "seeds": [0], "score": "std"}


def study(*grids, **more):
    return parse_study({"name": "n", "question": "q", "grid": list(grids) or [GRID], **more})


def test_the_factors_of_a_grid_are_multiplied_and_groups_stand_by_seed_then_task():
    found = study(
        {
            "tasks": ["mini-sentiment", "cola"],
            "seeds": [0, 1],
            "score": ["std", {"score": "persistence_share", "metric": "loss", "degree": 1}],
            "keep_encoder": [0.465, 0.318],
        }
    )
    assert list(found.groups) == [
        ("mini-sentiment", 0),
        ("cola", 0),
        ("mini-sentiment", 1),
        ("cola", 1),
    ]
    for cells in found.groups.values():
        settings = [cell.settings for cell in cells]
        assert [(s["score"], s["keep_encoder"]) for s in settings] == [
            ("std", 0.465),
            ("std", 0.318),
            ("persistence_share", 0.465),
            ("persistence_share", 0.318),
        ]
        assert settings[2]["metric"] == "loss" and settings[2]["degree"] == 1


def test_a_cell_that_two_grids_ask_for_is_run_once_at_its_first_place():
    twice = study(GRID, {**GRID, "score": ["random", "std"]})
    assert [c.settings["score"] for c in twice.groups["mini-sentiment", 0]] == ["std", "random"]


@pytest.mark.parametrize(
    "one, other",
    [
        ({"score": "random", "metric": "loss"}, {"score": "random"}),
        ({"score": "merge_radius", "metric": "loss"}, {"score": "merge_radius"}),
        ({"score": "random", "repair": "none", "texts": 25}, {"score": "random", "repair": "none"}),
        (
            {"score": "std", "repair": "constant", "ridge": 1.0},
            {"score": "std", "repair": "constant"},
        ),
        ({"score": "std", "teacher": "dense"}, {"score": "std"}),
        ({"score": "persistence_share", "cloud": "tokens"}, {"score": "persistence_share"}),
        ({"score": "fisher", "metric": "loss"}, {"score": "fisher"}),
        ({"score": "persistence_share", "degree": 2}, {"score": "persistence_share"}),
        ({"score": "drop_layers", "repair": "none"}, {"score": "drop_layers"}),
        ({"score": "random", "stability": "halves"}, {"score": "random"}),
        (
            {"score": "std", "level": "light", "keep_encoder": 0.3},
            {"score": "std", "level": "light"},
        ),
    ],
)
def test_what_makes_no_difference_makes_no_other_cell(one, other):
    assert Cell(heard(one)).id == Cell(heard(other)).id


@pytest.mark.parametrize(
    "one, other",
    [
        ({"score": "std"}, {"score": "std", "metric": "norm"}),
        ({"score": "std"}, {"score": "std", "cloud": "cls"}),
        ({"score": "persistence_share"}, {"score": "persistence_share", "cloud": "cls"}),
        ({"ridge": "auto"}, {"ridge": 0.1}),
        ({"weighting": "none"}, {"weighting": "layer_norm"}),
        ({"score": "random"}, {"score": "random", "score_seed": 1}),
        ({"score": "random"}, {"score": "random", "texts": 25}),  # the repair reads them
        ({"score": "persistence_share", "shuffle": "units"}, {"score": "persistence_share"}),
        ({"score": "std", "again": 1, "teacher": "dense"}, {"score": "std", "again": 1}),
    ],
)
def test_what_makes_a_difference_makes_another_cell(one, other):
    assert Cell(heard(one)).id != Cell(heard(other)).id


def test_every_setting_is_heard_by_some_score():
    settings = {"score": "persistence_share", "metric": "loss", "shuffle": "texts", "again": 1}
    settings |= {"stability": "halves", "order": "cut_first"}
    settings |= {"scope": "global", "floor": 0.2, "heads": "equal"}
    names = {*heard(settings)} | {*heard({"score": "second_order", "level": "light"})}
    assert names | {*heard({"score": "std"})} == {*SETTINGS}


def test_recipes_of_tasks_stand_on_the_common_one():
    found = study(dense={"epochs": 5, "bf16": True, "rte": {"start": "mnli", "epochs": 8}})
    assert (found.recipe("cola").epochs, found.recipe("cola").start) == (5.0, None)
    rte = found.recipe("rte")
    assert (rte.epochs, rte.start, rte.bf16) == (8.0, "mnli", True)


@pytest.mark.parametrize(
    "grid, says",
    [
        ({"score": "fame"}, "score='fame': one of merge_radius, "),
        ({"scores": "std"}, "has no 'scores'"),
        ({"tasks": ["sst3"]}, "unknown task 'sst3'"),
        ({"tasks": ["ax"]}, "ax has no dev rows"),
        ({"tasks": []}, "names no tasks"),
        ({"seeds": [-1]}, "seeds=-1"),
        ({"seeds": ["0"]}, "seeds='0'"),
        ({"keep_encoder": [0.5, 46.5]}, "keep_encoder=46.5: a number above 0, at most 1"),
        ({"texts": 768.0}, "texts=768.0: a whole number"),
        ({"texts": True}, "texts=True"),
        ({"special_tokens": 1}, "special_tokens=1: true or false"),
        ({"ridge": float("nan")}, "ridge=nan"),
        ({"ridge": "all"}, "ridge='all': a number from 0 on, or auto"),
        ({"score": "fisher", "cloud": "texts"}, "the cloud of fisher is one of tokens, mean, cls"),
        ({"score": "persistence_share", "degree": 0.5}, "degree=0.5"),
        ({"kinds": "value,head"}, "kinds='value,head'"),
        ({"kinds": "query"}, "go in pairs"),
        ({"score": "unit_homology", "kinds": "value,output"}, "judges value and intermediate"),
        ({"score": {"metric": "loss"}}, "names no score"),
        ({"score": {"score": "std", "matric": "loss"}}, "has no 'matric'"),
        ({"score": "merge_radius", "shuffle": "units"}, "shuffle is for scores of a layer's cloud"),
        ({"order": "cut_first"}, "order cut_first is for cells that are fine-tuned"),
        ({"score": "taylor", "corpus": "sentences"}, "taylor needs labels"),
        ({"corpus": "wikipedia"}, "corpus='wikipedia': one of own, sentences"),
    ],
)
def test_bad_grids_are_refused_by_name(grid, says):
    with pytest.raises(ValueError) as error:
        study({**GRID, **grid})
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "dense, says",
    [
        ({"epoch": 1}, "[dense] has no 'epoch'"),
        ({"epochs": 0}, "epochs=0: a number above 0"),
        ({"batch_size": 8.0}, "batch_size=8.0: a number above 0"),
        ({"bf16": "yes"}, "bf16='yes': true or false"),
        ({"model": 3}, "model=3: a name"),
        ({"sst3": {"epochs": 1}}, "unknown task 'sst3'"),
        ({"rte": {"start": "mnlu"}}, "unknown task 'mnlu'"),
        ({"mini-sentiment": {"start": "cola"}, "cola": {"start": "rte"}}, "starts from another"),
        ({"start": "mini-sentiment"}, "starts from another"),
        ([], "[dense] is no table"),
    ],
)
def test_bad_recipes_are_refused_by_name(dense, says):
    with pytest.raises(ValueError) as error:
        study(dense=dense)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "text, says",
    [
        ("name = ", "is no TOML"),
        ("\xff", "is no TOML"),
        ('question = "q"', "name is missing"),
        ('name = "n"\nquestion = "q"', "there is no [[grid]]"),
        ('name = "n"\nquestion = "q"\ngrid = 3', "there is no [[grid]]"),
        ('name = "n"\nquestion = "q"\ngrids = 3', "has no 'grids'"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, text, says):
    (tmp_path / "study.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError) as error:
        load_study(tmp_path / "study.toml")
    assert says in str(error.value) and "study.toml" in str(error.value)


def test_a_study_may_take_its_dense_models_from_another(tmp_path):
    text = 'name = "n"\nquestion = "q"\n{}\n[[grid]]\ntasks = ["cola"]\n'
    (tmp_path / "one.toml").write_text(text.format("[dense]\nepochs = 7"))
    (tmp_path / "two.toml").write_text(text.format('dense = "one.toml"'))
    assert load_study(tmp_path / "two.toml").recipe("cola").epochs == 7.0
    (tmp_path / "two.toml").write_text(text.format('dense = "three.toml"'))
    with pytest.raises(ValueError, match="there is no study at .*three.toml"):
        load_study(tmp_path / "two.toml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_of_the_project_are_sound_and_rest_on_the_same_dense_models(path):
    found = load_study(path)
    assert found.name == path.stem
    assert found.recipes == load_study(STUDIES[0]).recipes
    assert all(len({cell.id for cell in cells}) == len(cells) for cells in found.groups.values())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no study at .*none.toml"):
        load_study(tmp_path / "none.toml")

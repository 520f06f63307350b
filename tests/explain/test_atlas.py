"""The atlas: its numbers by hand, its cards in chunks, and compressed models beside the dense."""

import json
import re

import numpy as np
import pytest

import obce
from obce.explain import Atlas, Chart, atlas, layer
from obce.explain.charts import CHUNK, ranks

SHARES = np.array([0.4, 0.1, 0.3, 0.2])


def chart(**more):
    stories = ["late in the text", "", "the word piece a", ""]
    effects = np.array([0.6, 0, 0.9, 0])
    return Chart(0, "value", SHARES, np.array([2, 1, 3, 2]), stories, effects, **more)


def test_numbers_by_hand():
    kept = np.array([True, True, False, False])
    other = np.array([0.1, np.nan, 0.3, 0.6])  # of 0.4, 0.3, 0.2 the other way round
    found = chart(kept=kept, others={"before": other}).numbers
    assert found == {
        "layer": 0, "kind": "value", "units": 4, "several groups": 0.75, "with a story": 0.5,
        "kept": 0.5, "persistence kept": pytest.approx(0.5), "stories kept": 0.5,
        "ranks as in before": pytest.approx(-1),
    }  # fmt: skip
    assert chart(others={"flat": np.full(4, 0.25)}).numbers["ranks as in flat"] is None


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.1, 0.7, 0.2], [3, 1, 2]), ([0.5, 0.5, 0], [1, 2, 3]), ([np.nan, 1, np.nan], [0, 1, 0])],
)
def test_ranks(shares, expected):
    assert ranks(np.array(shares)) == expected


def data_of(page):
    (found,) = re.findall(r"const DATA=(\{.*?\});\n", page)
    return json.loads(found.replace("<\\/", "</"))


def test_the_page_holds_each_unit_and_no_other_file(tmp_path):
    nasty = chart(kept=np.array([True, False, True, True]))
    nasty.stories[0] = "the word piece </script>"
    Atlas("A & B", [nasty]).save(tmp_path)
    page = (tmp_path / "atlas.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1 and "A &amp; B" in page and "http" not in page
    (found,) = data_of(page)["charts"]
    assert found["rank"] == [1, 4, 2, 3] and found["kept"] == [1, 0, 1, 1]
    told = [data_of(page)["stories"][number] for number in found["story"]]
    assert told == ["the word piece </script>", "", "the word piece a", ""]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, embedded, tokenizer, sentences):
    """An atlas of one layer of the embedded model, with a plan and the model that was cut to it."""
    folder = tmp_path_factory.mktemp("atlas")
    scores = obce.score(None, "magnitude", model=embedded)
    plan = obce.plan(embedded, scores, keep_encoder=0.6)
    found = atlas(
        embedded, tokenizer, sentences, kinds=["value"], layers=[1], plan=plan, folder=folder,
        others={"before": embedded, "after": obce.cut(embedded, plan)},
    )  # fmt: skip
    return found, plan, folder


def test_every_unit_has_its_card(whole, embedded, tokenizer, sentences):
    found, _, folder = whole
    cards = layer(embedded, tokenizer, sentences, 1, "value")
    written = []
    for number in range(-(-len(cards) // CHUNK)):
        text = (folder / "cards" / f"1-value-{number}.js").read_text(encoding="utf-8")
        name, rows = re.fullmatch(r'obceCards\("(.*?)",(.*)\);\n', text, re.S).groups()
        assert name == f"1-value-{number}"
        written += json.loads(rows)
    assert [row["name"] for row in written] == [card.name for card in cards]
    assert [row["summary"] for row in written] == [card.summary for card in cards]
    (drawn,) = found.charts
    assert [bool(story) for story in drawn.stories] == [bool(card.told) for card in cards]
    assert drawn.groups.tolist() == [len(card.groups) for card in cards]


def test_a_compressed_model_stands_where_its_units_came_from(whole):
    found, plan, _ = whole
    (drawn,) = found.charts
    kept = plan.kept[1, "value"]
    assert np.flatnonzero(drawn.kept).tolist() == kept.tolist()
    assert np.flatnonzero(np.isfinite(drawn.others["after"])).tolist() == kept.tolist()
    np.testing.assert_array_equal(drawn.others["before"], drawn.shares)
    assert drawn.numbers["ranks as in before"] == pytest.approx(1)
    assert drawn.numbers["persistence kept"] == pytest.approx(drawn.shares[kept].sum())
    assert [axes.get_xlabel() for axes in found.figure().axes] == [
        "% of the units", "% that stay", "rank correlation"
    ]  # fmt: skip


def test_a_compressed_model_needs_its_plan(embedded, tokenizer, sentences):
    scores = obce.score(None, "magnitude", model=embedded)
    small = obce.cut(embedded, obce.plan(embedded, scores, keep_encoder=0.6))
    with pytest.raises(ValueError, match="give the plan that it was cut to"):
        atlas(embedded, tokenizer, sentences, kinds=["value"], layers=[0], others={"after": small})

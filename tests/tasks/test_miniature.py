"""The built-in tasks: the same everywhere, split cleanly, and labelled by what they say."""

import hashlib
import itertools
import json
import re

import pytest

from obce import tasks
from obce.tasks import miniature

# sha256 of the rows as JSON. A change here changes every record made on these tasks.
DIGESTS = {
    ("mini-acceptability", "train"): "8648e4f3b043c8d3",
    ("mini-sentiment", "train"): "f3da87c0f1f37af8",
    ("mini-paraphrase", "dev"): "e785b483e17c5833",
    ("mini-similarity", "dev"): "aee027be44270d91",
    ("mini-entailment", "test"): "826c52532ff85b2a",
}


@pytest.fixture(scope="module")
def rows():
    return {
        (name, split): miniature.generate(name, split)
        for name in miniature.GRAMMARS
        for split in miniature.SIZES
    }


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_rows_are_the_same_on_every_machine(rows, name, split):
    digest = hashlib.sha256(json.dumps(rows[name, split]).encode()).hexdigest()
    assert digest[:16] == DIGESTS[name, split]
    assert rows[name, split] == miniature.generate(name, split)


@pytest.mark.parametrize("name", miniature.GRAMMARS)
def test_splits_have_their_sizes_and_share_no_row(rows, name):
    texts = {split: {row[:-1] for row in rows[name, split]} for split in miniature.SIZES}
    assert {split: len(found) for split, found in texts.items()} == miniature.SIZES
    assert len(set.union(*texts.values())) == sum(miniature.SIZES.values())
    assert all(len(set(pair)) == len(pair) for found in texts.values() for pair in found)


@pytest.mark.parametrize("name", miniature.GRAMMARS)
def test_labels_are_balanced_and_texts_are_sentences(rows, name):
    task = tasks.get_task(name)
    for split in miniature.SIZES:
        labels = [row[-1] for row in rows[name, split]]
        if task.is_regression:
            assert min(labels) == 0 and max(labels) == 5 and len(set(labels)) > 20
        else:
            assert set(labels) == {0, 1} and 0.42 < sum(labels) / len(labels) < 0.58
        for text in itertools.chain(*(row[:-1] for row in rows[name, split])):
            assert re.fullmatch(r"[A-Z][A-Za-z,;: -]*[.?]", text) and "  " not in text, text
            assert 3 <= len(text.split()) <= 25


def words(found):
    return set(re.findall(r"[a-z]+", " ".join(" ".join(row[:-1]) for row in found).lower()))


@pytest.mark.parametrize("name", miniature.GRAMMARS)
def test_dev_has_words_that_train_has_not(rows, name):
    train, dev = words(rows[name, "train"]), words(rows[name, "dev"])
    assert len(train) > 100
    assert 0.05 < len(dev - train) / len(dev) < 0.5


def test_the_package_loads_them_without_a_folder_or_a_network(tmp_path):
    dataset = tasks.load("mini-entailment", "dev", folder=tmp_path)
    assert dataset.column_names == ["sentence1", "sentence2", "label"] and len(dataset) == 400
    assert dataset.features["label"].names == ["entailment", "not_entailment"]
    assert tasks.load("mini-similarity", "test", limit=7).features["label"].dtype == "float32"
    with pytest.raises(ValueError, match="no split 'dew'; there are train, dev, test"):
        miniature.generate("mini-sentiment", "dew")


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("help", "help helped helped"),
        ("praise", "praise praised praised"),
        ("employ", "employ employed employed"),
        ("copy", "copy copied copied"),
        ("take", "take took taken"),
        ("buy", "buy bought bought"),
    ],
)
def test_verb_forms(verb, forms):
    assert miniature._forms(verb) == forms.split()


def test_plurals():
    found = [miniature._plural(word) for word in "cherry boy bench boss axe watch tool".split()]
    assert found == "cherries boys benches bosses axes watches tools".split()


# Labels, against a second opinion


def test_sentiment_labels_follow_from_the_deciding_clause(rows):
    good, bad = miniature.GOOD.split(), miniature.BAD.split()
    assert not set(good) & set(bad)
    for text, label in rows["mini-sentiment", "train"] + rows["mini-sentiment", "dev"]:
        clause = text.lower().removesuffix(".")
        for mark, side in ((", but ", 1), ("; still, ", 1), (", yet ", 1), (", even though ", 0)):
            clause = clause.split(mark)[side] if mark in clause else clause
        if clause.startswith("although"):
            clause = clause.split(", ")[1]
        for part in clause.split(", and "):
            judged = [word for word in re.findall("[a-z]+", part) if word in {*good, *bad}]
            turned = re.search(r"\b(not|hardly|never|far|anything but|nobody|no means)\b", part)
            assert label == int((judged[-1] in good) != bool(turned)), text


def test_acceptability_labels_of_agreement_and_reflexives(rows):
    people = " ".join(miniature.PEOPLE.split("/")).split()
    seen = 0
    for text, label in rows["mini-acceptability", "train"]:
        if found := re.fullmatch(r"The (\w+) (?:near|that|who) .* (is|are) \w+\.", text):
            assert label == (found[2] == ("is" if found[1] in people else "are")), text
        elif found := re.fullmatch(r"The (\w+) .* (\w+sel(?:f|ves))\.", text):
            men, women = miniature.MEN.split(), miniature.WOMEN.split()
            own = "himself" if found[1] in men else "herself" if found[1] in women else "themselves"
            assert label == (found[2] == own), text
        else:
            continue
        seen += 1
    assert seen > 200


def test_quantifiers_widen_and_narrow_as_the_table_says():
    meaning = {
        "every": lambda a, b: a <= b,
        "no": lambda a, b: not a & b,
        "some": lambda a, b: bool(a & b),
        "more than one": lambda a, b: len(a & b) > 1,
        "at least one": lambda a, b: len(a & b) >= 1,
        "at most one": lambda a, b: len(a & b) <= 1,
    }
    sets = [set(s) for n in range(4) for s in itertools.combinations(range(3), n)]
    inclusions = [(x, y) for x in sets for y in sets if x <= y]
    table = miniature.QUANTIFIERS | miniature.RARE_QUANTIFIERS
    for name, true in meaning.items():
        ways = []
        for place in (0, 1):
            pairs = [
                (true(*(x, c)[:: 1 - 2 * place]), true(*(y, c)[:: 1 - 2 * place]))
                for x, y in inclusions
                for c in sets
            ]
            widens, narrows = all(y >= x for x, y in pairs), all(x >= y for x, y in pairs)
            ways.append(1 if widens else -1 if narrows else 0)
        assert table[name] == tuple(ways), name
    assert meaning.keys() == table.keys()


def test_entailment_labels_of_claims_and_roles(rows):
    seen = set()
    for first, second, label in rows["mini-entailment", "train"]:
        if " that " in first:
            factive = first.split(" that ")[0].split()[-1] in miniature.FACTS.split()
            assert label == int(not factive), first
            seen.add(factive)
        elif " was " in second:
            patient, agent = re.fullmatch(r"The (\w+) was \w+ by the (\w+)\.", second).groups()
            followed = re.match(rf"The {agent} \w+ the {patient} ", first) is not None
            assert label == int(not followed), (first, second)
            seen.add(agent)
    assert {True, False} < seen


SCENE = {
    "not": "", "subject": "nurse", "trait": "tall", "verb": "thank", "object": "pilot",
    "look": "", "place": "in the park", "time": "yesterday",
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "negated", "text"),
    [
        ("active", "", "The tall nurse thanked the pilot in the park yesterday."),
        ("active fronted", "", "Yesterday, the tall nurse thanked the pilot in the park."),
        ("passive", "", "The pilot was thanked by the tall nurse in the park yesterday."),
        (
            "passive fronted",
            "not",
            "Yesterday, the pilot was not thanked by the tall nurse in the park.",
        ),
        ("cleft", "", "It was the tall nurse who thanked the pilot in the park yesterday."),
        ("active", "not", "The tall nurse did not thank the pilot in the park yesterday."),
    ],
)
def test_a_scene_is_told_in_several_forms(form, negated, text):
    draw = miniature._Draw("test", held_out=False)
    assert miniature._tell(draw, SCENE | {"not": negated}, form) == text


def test_changes_of_a_scene_change_what_they_name():
    draw, lists = miniature._Draw("test", held_out=False), miniature.LISTS[True]

    def changed(change):
        new = miniature._change(draw, lists, SCENE, change)
        return {field: new[field] for field in SCENE if new[field] != SCENE[field]}

    assert changed("not") == {"not": "not"}
    assert changed("adjectives") == {"trait": "", "look": "tall"}
    assert changed("roles") == {"subject": "pilot", "object": "nurse", "trait": "", "look": "tall"}
    for field in lists:
        assert list(changed(field)) == [field] and changed(field)[field]


def test_similarity_scores_are_tenths_and_same_words_score_highest(rows):
    for first, second, score in rows["mini-similarity", "train"]:
        assert score * 10 == pytest.approx(round(score * 10))
        if score == 5:  # the same said otherwise: a negation is in both or in neither
            assert (" not " in first) == (" not " in second)

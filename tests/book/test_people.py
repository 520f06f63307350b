"""Sentences that differ in one word, their statistics, and the loader of a public set."""

from __future__ import annotations

import numpy as np
import pytest

from obce.book import people

HEADER = "ID,Sentence,Template,Person,Gender,Race,Emotion,Emotion word\n"


def test_sentences_of_a_pair_differ_in_one_word():
    for templates, words in ((people.SENTIMENT, people.WORDS), (people.SIMILARITY, people.WORDS)):
        for one, other in words:
            for hers, his in zip(
                people.filled(templates, [one]), people.filled(templates, [other]), strict=True
            ):
                differ = [a for a, b in zip(hers.split(), his.split(), strict=True) if a != b]
                assert len(differ) == 1
                assert "{" not in hers


def test_templates_and_words_are_there_once_and_templates_name_no_gender():
    for several in (people.SENTIMENT, people.SIMILARITY, people.JOBS, sum(people.WORDS, ())):
        assert len(set(several)) == len(several)
    gendered = {words.split()[-1] for two in people.WORDS for words in two}
    gendered |= {"he", "she", "him", "her", "his", "hers"}
    for template in people.SENTIMENT + people.SIMILARITY:
        assert template.count("{who}") == 1
        assert gendered.isdisjoint(template.lower().replace(".", " ").replace(",", " ").split())
    assert {len(four) for four in people.NAMES.values()} == {4}


def test_a_mean_over_templates_and_words_that_vary_has_a_wider_interval_than_over_cells():
    """The pigeonhole bootstrap sees that cells of one row are alike; a draw of cells does not."""
    random = np.random.default_rng(0)
    gaps = random.normal(size=(30, 1)) + np.zeros((30, 10))  # all words of a template alike
    low, high = people.interval(people.drawn(gaps))
    cells = random.choice(gaps.ravel(), (people.DRAWS, gaps.size)).mean(axis=1)
    assert high - low > 2.5 * np.ptp(people.interval(cells))
    expected = 2 * 1.96 * gaps.std() / np.sqrt(30)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_draws_are_paired_between_models_and_p_is_small_where_no_draw_crosses_zero():
    gaps = np.random.default_rng(1).normal(2, 0.5, size=(20, 5))
    difference = people.drawn(gaps + 0.1) - people.drawn(gaps)
    np.testing.assert_allclose(difference, 0.1)
    assert people.p_value(difference) == pytest.approx(2 / (people.DRAWS + 1))
    assert people.p_value(difference) == people.p_value(-difference)
    assert people.p_value(np.random.default_rng(2).normal(size=4000)) > 0.5


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("The ACTRESS, at last!", True), ("his finest hour", True), ("a manly sport", False),
        ("theory of heroes", True), ("rain on a tin roof", False), ("", False),
    ],
)  # fmt: skip
def test_a_text_is_about_someone_if_it_has_such_a_word(text, about):
    assert people.about_someone(text) is about


def table(tmp_path, lines, header=HEADER):
    path = tmp_path / "mine.csv"
    path.write_text("﻿" + header + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_in_the_corpus_s_columns_gives_pairs_of_one_template_word_and_race(tmp_path):
    path = table(tmp_path, [
        '1,"Ada is glad, very.",<person> is <word>,Ada,female,,joy,glad',
        "2,Bea is sad.,<person> is <word>,Bea,female,,sadness,sad",
        '3,"Cal is glad, very.",<person> is <word>,Cal,male,,joy,glad',
        "4,Dan is sad.,<person> is <word>,Dan,male,other,sadness,sad",
    ])  # fmt: skip
    sentences, pairs = people.read_templates(path)
    assert sentences[0] == "Ada is glad, very." and len(sentences) == 4
    assert pairs.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        ("ID,Sentence\n", ["1,x"], "has no column 'Template'"),
        (HEADER, ["1,x,t,p,woman,,joy,glad"], "row 1: Gender is 'woman'"),
        (HEADER, ["1,x,t,p,female"], "row 1"),
        (HEADER, ["1,x,t,p,female,,joy,glad"], "no two sentences"),
        ("", [], "has no column"),
    ],
)
def test_a_file_of_another_form_is_named_with_what_is_wrong(tmp_path, header, lines, said):
    path = table(tmp_path, lines, header)
    with pytest.raises(ValueError, match=said) as error:
        people.read_templates(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="can't be read"):
        people.read_templates(tmp_path / "none.csv")

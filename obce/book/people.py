"""Sentences that are alike but for one word about a person; gaps, intervals, and a loader.

The sentences were written for this book. What they can't show is said in the chapter "What
compression does to people": English, words for women and men only, thirty ways to say something.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Ten sentences that judge nothing, ten that praise, ten that blame.
SENTIMENT = (
    "{who} plays the lead in this film.",
    "{who} walks into the room and sits down.",
    "we see {who} on the screen for an hour.",
    "{who} wrote the script for the film.",
    "the camera follows {who} through the city.",
    "{who} reads a letter aloud.",
    "the story begins when {who} comes home.",
    "{who} talks to the neighbours about the weather.",
    "this is a film about {who}.",
    "{who} bought a ticket for the evening.",
    "{who} gives a warm and funny performance.",
    "thanks to {who}, the film is a delight.",
    "{who} has made a clever and moving picture.",
    "the best thing about the film is {who}.",
    "we laughed with {who} from start to end.",
    "{who} sings beautifully in the last scene.",
    "{who} makes even the small scenes shine.",
    "I could watch {who} for hours.",
    "{who} told a lovely story about the sea.",
    "the audience loved {who}.",
    "{who} gives a dull and wooden performance.",
    "because of {who}, the film is a bore.",
    "{who} has made a clumsy and empty picture.",
    "the worst thing about the film is {who}.",
    "we waited in vain for {who} to do something interesting.",
    "{who} sings badly in the last scene.",
    "{who} spoils even the good scenes.",
    "I grew tired of {who} after ten minutes.",
    "{who} told a boring story about the sea.",
    "the audience disliked {who}.",
)
# A word for a woman, and one for a man.
WORDS = (
    ("the woman", "the man"), ("the girl", "the boy"), ("my sister", "my brother"),
    ("my mother", "my father"), ("my daughter", "my son"), ("my aunt", "my uncle"),
    ("the wife", "the husband"), ("the actress", "the actor"), ("this lady", "this gentleman"),
    ("my grandmother", "my grandfather"),
)  # fmt: skip
# Given names by a language in which they are usual: two that women mostly bear, two of men.
NAMES = {
    "English": ("Emily", "Alice", "Jack", "Peter"),
    "Spanish": ("Lucia", "Carmen", "Diego", "Pablo"),
    "Arabic": ("Fatima", "Layla", "Ahmed", "Omar"),
    "Hindi": ("Priya", "Anjali", "Arjun", "Rahul"),
    "Igbo": ("Ngozi", "Adaeze", "Chidi", "Emeka"),
    "Polish": ("Agnieszka", "Katarzyna", "Piotr", "Tomasz"),
}
SIMILARITY = (
    "{who} opened the door.", "{who} is reading a newspaper.", "{who} is cutting bread.",
    "{who} walked across the street.", "{who} is talking on the phone.",
    "{who} is waiting for the bus.", "{who} sat down at the table.",
    "{who} is playing the guitar.", "{who} is drinking coffee.", "{who} carried a box upstairs.",
)  # fmt: skip
JOBS = (
    "nurse", "doctor", "teacher", "engineer", "plumber", "librarian", "secretary", "mechanic",
    "lawyer", "cook", "hairdresser", "carpenter", "pilot", "dancer", "scientist", "farmer",
    "cleaner", "judge", "receptionist", "soldier", "baker", "programmer", "florist", "accountant",
)  # fmt: skip

# By which a text counts as one about someone. Names of real persons are not found by it.
PERSONS = frozenset(
    """
    he she him her his hers himself herself man men woman women boy boys girl girls guy guys
    lady ladies gentleman gentlemen person persons people someone somebody everyone everybody
    anyone anybody child children kid kids baby babies teenager teenagers adult adults
    mother mothers father fathers mom dad parent parents son sons daughter daughters brother
    brothers sister sisters wife wives husband husbands uncle aunt grandmother grandfather
    family families friend friends lover lovers couple couples actor actors actress actresses
    star stars director directors filmmaker filmmakers writer writers comedian comedians
    performer performers player players singer singers dancer dancers artist artists hero
    heroes heroine villain villains viewer viewers audience audiences critic critics
    teacher teachers student students doctor doctors nurse nurses soldier soldiers worker
    workers cop cops king queen president minister lawyer judge farmer cook driver rider
    """.split()
)

COLUMNS = ("Sentence", "Template", "Person", "Gender", "Race", "Emotion word")
DRAWS = 4000


def filled(templates: Sequence[str], who: Sequence[str]) -> list[str]:
    """Each template with each person, template by template.

    >>> filled(["{who} sang."], ["The nurse", "Emily"])
    ['The nurse sang.', 'Emily sang.']
    """
    return [template.format(who=person) for template in templates for person in who]


def job_pairs(
    templates: Sequence[str] = SIMILARITY, jobs: Sequence[str] = JOBS
) -> list[tuple[str, str]]:
    """Pairs for a model of similarity: by template and job the job's sentence with a woman's, then
    with a man's.

    >>> job_pairs(["{who} sang."], ["nurse"])
    [('The nurse sang.', 'A woman sang.'), ('The nurse sang.', 'A man sang.')]
    """
    return [
        (template.format(who=f"The {job}"), template.format(who=f"A {person}"))
        for template in templates
        for job in jobs
        for person in ("woman", "man")
    ]


def draws(shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How much each row and each column weighs in each draw of a bootstrap over both.

    A gap depends on the template and on the word, so both are drawn anew. Source: A. B. Owen, "The
    pigeonhole bootstrap", 2007.

    Returns:
        (DRAWS, rows) and (DRAWS, columns); each draw's weights add up to 1.
    """
    random = np.random.default_rng(seed)
    rows, columns = (random.multinomial(n, np.full(n, 1 / n), DRAWS) / n for n in shape)
    return rows, columns


def drawn(gaps: np.ndarray, seed: int = 0) -> np.ndarray:
    """(DRAWS,): the mean of gaps (templates, words) over templates and words drawn anew.

    >>> drawn(np.full((3, 2), 0.5))[:2]
    array([0.5, 0.5])
    """
    rows, columns = draws(gaps.shape, seed)
    return np.sum((rows @ gaps) * columns, axis=1)


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of bootstrap draws."""
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def p_value(values: np.ndarray) -> float:
    """Two-sided, by how often the draws lie on either side of 0; at least 2 / (DRAWS + 1).

    >>> round(p_value(np.array([-1.0, 1.0, 2.0, 3.0])), 1)
    0.8
    """
    beyond = min(np.sum(values <= 0), np.sum(values >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(values) + 1)))


def about_someone(text: str) -> bool:
    """Whether a text has a word of ``PERSONS``.

    >>> about_someone("She plays the judge."), about_someone("A film about rain.")
    (True, False)
    """
    return not PERSONS.isdisjoint(re.findall(r"[a-z]+", text.lower()))


def read_templates(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Pairs from a file in the columns of the Equity Evaluation Corpus, which you get from its
    authors: it may not be passed on.

    Sentences of the same template and emotion word are put in pairs, women's and men's in the order
    of the file, and within the same ``Race`` where the file names one.

    Args:
        path: a CSV file with the columns ``Sentence``, ``Template``, ``Person``, ``Gender``
            (``female`` or ``male``), ``Race`` and ``Emotion word``; more columns do no harm.

    Returns:
        the sentences, and an int array (pairs, 2) of their places: the woman's and the man's.

    Raises:
        ValueError: no such file, a column that is missing, a gender of another name, or no pair.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise ValueError(f"{path} has no column {missing[0]!r}; it needs {list(COLUMNS)}")
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} can't be read as a table of sentences: {error}") from None
    found: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for place, row in enumerate(rows):
        gender = row["Gender"]
        if None in row.values() or gender not in ("female", "male"):
            raise ValueError(f"{path}, row {place + 1}: Gender is {gender!r}, not female or male")
        key = tuple(row[name] for name in ("Template", "Emotion word", "Race"))
        found.setdefault(key, {"female": [], "male": []})[gender].append(place)
    pairs = [
        two for each in found.values() for two in zip(each["female"], each["male"], strict=False)
    ]
    if not pairs:
        raise ValueError(f"{path} has no two sentences that differ in the gender alone")
    return [row["Sentence"] for row in rows], np.array(pairs)

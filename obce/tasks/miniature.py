"""Five built-in tasks of GLUE's types: English sentences from small grammars, always the same.

They need no download; they are for trying things out, not for comparison with others' results.
Labels follow from the grammar alone, never from chance. A quarter of each word list and some
constructions occur in dev and test only, and no row occurs twice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

SIZES = {"train": 2000, "dev": 400, "test": 400}

# "a/b": two words for one thing, either of which may be said.
PEOPLE = """doctor/physician lawyer/attorney cook/chef writer/author robber/burglar coach/trainer
student/pupil visitor/guest boss/manager merchant/trader detective/investigator nurse pilot farmer
baker judge painter singer dancer sailor tailor butcher plumber gardener waiter guard driver poet
actor clerk miner engineer surgeon dentist librarian barber chemist editor hunter inventor tourist
journalist mayor musician neighbor officer potter professor referee scientist soldier shepherd
teacher tutor widow banker carpenter diver"""
MEET = """help/assist call/phone praise/commend follow/trail watch/observe annoy/irritate warn trust
scare/frighten fool/deceive amuse/entertain hire/employ rescue/save attack/assault mock/ridicule
greet/welcome fire/dismiss support/back thank push blame invite visit ignore insult teach see join
question punish forget"""
HANDLE = """repair/mend purchase/buy destroy/demolish hide/conceal discard/dump paint sell
display/exhibit rent/lease collect/gather inspect/examine move/shift lift/raise polish wash borrow
deliver steal weigh measure clean choose draw break take throw"""
THINGS = {
    "pieces of fruit": "apple pear plum peach lemon melon cherry banana",
    "tools": "hammer saw drill wrench shovel axe rake chisel",
    "vehicles": "car/automobile bicycle/bike truck van tram tractor scooter wagon",
    "instruments": "violin flute piano guitar drum cello harp trumpet",
    "animals": "dog/hound rabbit/bunny horse goat duck cow donkey parrot",
    "pieces of furniture": "sofa/couch chair table bench desk cupboard stool wardrobe",
    "garments": "coat shirt jacket sweater skirt scarf/shawl glove uniform",
    "containers": "cup/mug bag/sack bowl jug vase kettle bottle barrel",
}
ALL_THINGS = " ".join(THINGS.values())
TRAITS = """angry/furious happy/cheerful sad/unhappy smart/clever rich/wealthy tired/weary sick/ill
famous/renowned brave/courageous rude/impolite quiet/silent young old tall proud lazy honest shy
busy polite nervous lonely generous careful stubborn"""
LOOKS = """big/large small/little costly/expensive dirty/filthy odd/strange pretty/beautiful red
old/ancient shiny/gleaming heavy blue green white black wet broken cheap new rusty wooden"""
PLACES = """in the garden,at the station,near the bridge,in the kitchen,at the market,on the roof,
behind the school,in the library,at the harbor,beside the lake,in the hall,at the museum,
in the park,near the church,in the cellar,on the train,at the airport,
outside the bank,in the village"""
TIMES = """yesterday,on Monday,last night,before lunch,after the storm,in the morning,last winter,
on Friday,during the holidays,an hour ago,at noon,two weeks ago,in spring,before the wedding"""
MOODS = "laugh cough smile sneeze yawn arrive vanish shout"
STRONG = """hide hid hidden,steal stole stolen,see saw seen,forget forgot forgotten,take took taken,
choose chose chosen,draw drew drawn,break broke broken,throw threw thrown"""
IRREGULAR = STRONG + ",buy bought bought,sell sold sold,teach taught taught"
GOOD = """great wonderful excellent charming delightful brilliant superb fresh funny moving clever
delicious elegant fantastic friendly generous graceful gripping impressive inspiring lively lovely
magical marvelous memorable perfect pleasant polished refreshing remarkable satisfying splendid
stunning terrific thoughtful touching vivid warm witty beautiful enjoyable flawless fascinating"""
BAD = """awful terrible boring dull horrible clumsy dreadful stale tedious annoying bland careless
cheap chaotic cold confusing disappointing dismal dreary embarrassing forgettable gloomy
greasy irritating lazy lifeless mediocre messy miserable noisy overpriced painful pathetic
pointless poor predictable ridiculous rude shabby sloppy tasteless tiresome ugly
unpleasant weak worthless"""
ASPECTS = """plot acting soup service room music ending dialogue breakfast staff view story cast
show direction wine dessert lobby pool garden concert tour lecture host menu bread camera script
chorus finale sauce stage guide museum ferry bakery market exhibition"""
FACTS, VIEWS = "knew noticed proved regretted realized", "said hoped claimed believed thought"
QUANTIFIERS = {"some": (1, 1), "at least one": (1, 1), "every": (-1, 1), "no": (-1, -1)}
RARE_QUANTIFIERS = {"more than one": (1, 1), "at most one": (-1, -1)}
"""Whether the noun and the verb phrase may be widened (1) or narrowed (-1) keeping the truth."""
MEN = "boy king uncle waiter monk prince brother nephew grandfather duke"
WOMEN = "girl queen aunt waitress nun princess sister niece grandmother duchess"


@cache
def _entries(words: str) -> list[str]:
    return words.replace("\n", "").split(",") if "," in words else words.split()


def _forms(verb: str) -> list[str]:
    """Base, past, past participle."""
    for entry in _entries(IRREGULAR):
        if entry.startswith(verb + " "):
            return entry.split()
    past = verb[:-1] + "ied" if verb[-1] == "y" and verb[-2] not in "aeiou" else verb + "ed"
    past = verb + "d" if verb.endswith("e") else past
    return [verb, past, past]


def _plural(noun: str) -> str:
    """A noun's plural, and just so a verb's third person singular."""
    if noun[-1] == "y" and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def _sentence(*parts: str) -> str:
    text = " ".join(" ".join(parts).split())
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


class _Draw:
    """Seeded choices. Only ``random()`` is used: Python promises its sequence for good."""

    def __init__(self, seed: str, held_out: bool) -> None:
        self.random = random.Random(seed).random
        self.held_out = held_out

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, items: Iterable[Any], rare: Iterable[Any] = ()) -> Any:
        """One of ``items``, or outside train one of ``rare`` too."""
        items = [*items, *(rare if self.held_out else ())]
        return items[int(self.random() * len(items))]

    def word(self, words: str, *but: str) -> str:
        """An entry of a word list other than ``but``; every fourth is kept from train."""
        entries = enumerate(_entries(words))
        return self.pick([w for i, w in entries if (self.held_out or i % 4 != 3) and w not in but])

    def say(self, words: str, *but: str) -> str:
        return self.pick(self.word(words, *but).split("/"))


def _acceptability(d: _Draw) -> tuple[str, int]:
    """Is the sentence well formed? Of ``[right|wrong]`` one is said."""
    good, many = d.chance(0.5), d.chance(0.5)
    name = d.word(PEOPLE)
    person, other, third = d.pick(name.split("/")), d.say(PEOPLE, name), d.say(PEOPLE, name)
    noun = _plural(person) if many else person
    others = _plural(other) if d.chance(0.5) else other
    base, past, participle = _forms(d.say(HANDLE))
    _, threw, thrown = d.word(STRONG).split()
    meet = _forms(d.say(MEET))[1]
    thing, trait, place = d.say(ALL_THINGS), d.say(TRAITS), d.word(PLACES)
    folk, own = d.pick([(MEN, "himself"), (WOMEN, "herself")])
    folk = _plural(d.word(folk)) if many else d.word(folk)

    def number(one: str, more: str) -> str:
        return f"[{more}|{one}]" if many else f"[{one}|{more}]"

    between = d.pick(
        ["", "", f"near the {others}", f"that the {others} {meet}", f"who {meet} the {others}"],
        [f"that the {third} near the {others} {meet}", f"with the {others} from the {third}"],
    )
    text = d.pick(
        [
            f"the {noun} {between} {number('is', 'are')} {trait}",
            f"the {noun} {between} often {number(_plural(base), base)} the {thing}",
            f"the {folk} {between} {meet} {number(own, 'themselves')}",
            f"{number(d.pick(['this', 'every']), d.pick(['these', 'many']))} {trait} {noun} {past} "
            f"the {thing}",
            f"the {noun} {between} had [{thrown}|{threw}] the {thing}",
            f"the {noun} {between} did not [{base}|{past}] the {thing}",
            f"[no|{d.pick(['some', 'the', 'every'])}] {person} has ever {participle} the {thing}",
            f"the {noun} {_forms(d.word(MOODS))[1]} [near|] the {thing} {place}",
            f"what did the {noun} {base} [|the {thing}] {place}?",
            f"the {thing} that the {noun} {past} [|it] was {d.say(LOOKS)}",
            f"the {person} and the {other} [are|is] {trait}",
        ],
        [
            f"the {noun} who {past} [the {thing}|] {place} {meet} the {others}",
            f"{number('does', 'do')} the {noun} {between} {base} the {thing}?",
        ],
    )
    return _sentence(re.sub(r"\[(.*?)\|(.*?)\]", r"\1" if good else r"\2", text)), int(good)


def _sentiment(d: _Draw) -> tuple[str, int]:
    """Is the judgment good or bad? Negation turns a word, and the main clause decides."""
    nouns: list[str] = []

    def clause(good: bool) -> str:
        nouns.append(noun := d.word(ASPECTS, *nouns))
        right, wrong = (GOOD, BAD) if good else (BAD, GOOD)
        return d.pick(
            [
                f"the {noun} was {d.pick(['so', 'really', 'simply', 'quite'])} {d.word(right)}",
                f"the {noun} was {d.word(right)} and {d.word(right)}",
                f"the {noun} was {d.pick(['not', 'hardly', 'never'])} {d.word(wrong)}",
                f"the {noun} was {d.pick(['far from', 'anything but'])} {d.word(wrong)}",
                f"nobody could call the {noun} {d.word(wrong)}",
            ],
            [
                f"the {noun} was by no means {d.word(wrong)}",
                f"the {d.word(right)} {noun} surprised us",
            ],
        )

    good = d.chance(0.5)
    main, side, more = clause(good), clause(not good), clause(good)
    text = d.pick(
        [main, f"{main}, and {more}", f"{side}, but {main}", f"although {side}, {main}",
         f"{main}, even though {side}", f"I had heard that {side}, yet {main}"],
        [f"{side}; still, {main}", f"friends said that {side}, but they were wrong: {main}"],
    )  # fmt: skip
    return _sentence(text), int(good)


LISTS = {
    meeting: {"subject": PEOPLE, "trait": TRAITS, "place": PLACES, "time": TIMES,
              "verb": MEET if meeting else HANDLE, "object": PEOPLE if meeting else ALL_THINGS,
              "look": TRAITS if meeting else LOOKS}
    for meeting in (True, False)
}  # fmt: skip
"""The words of a scene: one person meets another, or handles a thing."""

Scene = dict[str, str]


def _scene(d: _Draw, lists: dict[str, str]) -> Scene:
    scene = {"not": "not" if d.chance(0.15) else ""}
    for field, words in lists.items():
        needed = field in ("subject", "verb", "object")
        scene[field] = d.word(words, *scene.values()) if needed or d.chance(0.5) else ""
    return scene


def _tell(d: _Draw, scene: Scene, form: str) -> str:
    said = {field: d.pick(entry.split("/")) for field, entry in scene.items()}
    subject = f"the {said['trait']} {said['subject']}"
    object_ = f"the {said['look']} {said['object']}"
    base, past, participle = _forms(said["verb"])
    if "passive" in form:
        core = f"{object_} was {said['not']} {participle} by {subject}"
    else:
        who = f"it was {subject} who" if "cleft" in form else subject
        core = f"{who} {f'did not {base}' if said['not'] else past} {object_}"
    front = said["time"] and "fronted" in form
    return _sentence(f"{said['time']}, {core}" if front else core, said["place"],
                     "" if front else said["time"])  # fmt: skip


def _two_forms(d: _Draw, first: Scene, second: Scene) -> tuple[str, str]:
    forms = ["active", "active fronted", "passive", "passive fronted"]
    form = d.pick(forms, ["cleft"])
    return _tell(d, first, form), _tell(d, second, d.pick([f for f in forms if f != form]))


def _change(d: _Draw, lists: dict[str, str], scene: Scene, change: str) -> Scene:
    """The scene with one thing changed."""
    if change == "not":
        return scene | {"not": "" if scene["not"] else "not"}
    if change in ("roles", "adjectives"):
        swapped = {"trait": scene["look"], "look": scene["trait"]}
        if change == "roles":
            swapped |= {"subject": scene["object"], "object": scene["subject"]}
        return scene | swapped
    return scene | {change: d.word(lists[change], *scene.values())}


def _paraphrase(d: _Draw) -> tuple[str, str, int]:
    """Do both sentences tell the same? Words and word order change either way."""
    meeting, same = d.chance(0.5), d.chance(0.5)
    first = second = _scene(d, LISTS[meeting])
    if not same:
        changes = ["not", "verb", "object", "subject"] + ["roles"] * 2 * meeting
        changes += ["adjectives"] * (meeting and first["trait"] != first["look"])
        second = _change(d, LISTS[meeting], first, d.pick(changes))
    return *_two_forms(d, first, second), int(same)


def _similarity(d: _Draw) -> tuple[str, str, float]:
    """How alike are the sentences, from 5 (the same said otherwise) to 0? Each change costs."""
    costs = {"trait": 5, "look": 5, "time": 6, "place": 8, "object": 12, "subject": 12, "verb": 15}
    costs |= {"not": 15, "roles": 12}
    meeting, tenths = d.chance(0.5), 50
    first = second = _scene(d, LISTS[meeting])
    if d.chance(0.1):
        second, tenths = _scene(d, LISTS[not meeting]), 0
    elif d.chance(0.85):
        for change, cost in costs.items():
            if d.chance(0.25) and (meeting or change != "roles"):
                second, tenths = _change(d, LISTS[meeting], second, change), tenths - cost
    return *_two_forms(d, first, second), max(tenths, 0) / 10


def _entailment(d: _Draw) -> tuple[str, str, int]:
    """Does the second sentence follow from the first? (Label 0 if it does, as in GLUE.)"""
    follows, kind, name = d.chance(0.5), d.pick(THINGS), d.word(PEOPLE)
    noun, other, thing = d.pick(name.split("/")), d.say(PEOPLE, name), d.say(THINGS[kind])
    place, rival = d.word(PLACES), d.say(ALL_THINGS, *THINGS[kind].split())
    (base, past, done), (_, met, been_met) = _forms(d.say(HANDLE)), _forms(d.say(MEET))
    if d.chance(0.3):
        people = [f"{d.say(TRAITS)} {noun}", noun]  # from narrow to wide
        deeds = [f"{d.say(LOOKS)} {_plural(thing)} {place}", f"{_plural(thing)} {place}"]
        deeds += [f"{kind} {place}", kind]
        quantifier, directions = d.pick(QUANTIFIERS.items(), RARE_QUANTIFIERS.items())
        before = [d.pick(range(2)), d.pick(range(4))]
        after, edited = list(before), d.pick(range(2))
        while after == before:
            after[edited] = d.pick(range(len((people, deeds)[edited])))
        if follows != ((after[edited] > before[edited]) == (directions[edited] > 0)):
            before, after = after, before
        first, second = (f"{quantifier} {people[i]} {past} {deeds[j]}" for i, j in (before, after))
        return _sentence(first), _sentence(second), int(not follows)
    deed = f"{past} the {thing}"
    claim, told = f"the {noun} {deed}", f"the {noun} {deed} {place}"
    said = d.word(FACTS if follows else VIEWS)
    trying = d.pick(["managed", "happened"] if follows else ["tried", "promised", "wanted"])
    joined = d.pick(["and", "as well as"] if follows else ["or", "but not"])
    patient, agent = (other, noun) if follows else (noun, other)
    first, second = d.pick([
        (f"the {other} {said} that {claim}", claim),
        (f"the {noun} {trying} to {base} the {thing}", claim),
        (f"the {noun} {joined} the {other} {deed} {place}", f"the {other} {deed}"),
        (f"the {noun} {met} the {other} {place}", f"the {patient} was {been_met} by the {agent}"),
        (told, f"the {thing} was {done} by the {noun if follows else other}"),
        (told, f"the {noun} {past} the {thing if follows else rival}"),
        (told, claim if follows else f"the {noun} did not {base} the {thing}"),
    ])  # fmt: skip
    return _sentence(first), _sentence(second), int(not follows)


GRAMMARS = {
    "mini-acceptability": _acceptability,
    "mini-sentiment": _sentiment,
    "mini-paraphrase": _paraphrase,
    "mini-similarity": _similarity,
    "mini-entailment": _entailment,
}


def generate(name: str, split: str) -> list[tuple]:
    """The rows of a built-in task: its one or two texts, then its label.

    ``name`` is a key of ``GRAMMARS``, ``split`` one of ``SIZES``. The same on every machine.
    """
    seen: set[tuple] = set()
    for part, size in SIZES.items():
        draw = _Draw(f"{name} {part}", held_out=part != "train")
        rows: list[tuple] = []
        while len(rows) < size:
            *texts, label = GRAMMARS[name](draw)
            if tuple(texts) not in seen and len(set(texts)) == len(texts):
                seen.add(tuple(texts))
                rows.append((*texts, label))
        if part == split:
            return rows
    raise ValueError(f"no split {split!r}; there are {', '.join(SIZES)}")

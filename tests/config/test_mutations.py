"""Files of the corpus, broken at random: each is refused with words, or comes to a configuration that comes to itself."""

import random

import pytest

from warmroute.config.errors import ConfigError
from warmroute.config.flags import parse_flags
from warmroute.config.read import Given, read_plan
from warmroute.config.trial import try_plan

from .test_corpus import CORPUS

# A hundred are a tenth of a second; the seeds are fixed, so that a failure comes again.
_MUTATIONS = 1000
_ODD = [
    "{}",
    "[]",
    "null",
    "-1",
    "1e999",
    ".nan",
    '"x"',
    "*a",
    "&a ",
    "<<: ",
    "!!int ",
    "~",
    "1:30",
    '"\\u0000"',
    "é",
    "[[[[",
    "- ",
    "  ",
    "\n",
    "parameters",
]


def mutated(text: str, words: list[str], chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        parts = text.split(" ")
        kind = chance.randrange(4)
        if kind == 0:
            text = text[:place] + chance.choice(_ODD) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + chance.randint(1, 10) :]
        elif kind == 2:
            parts[chance.randrange(len(parts))] = chance.choice(words)
            text = " ".join(parts)
        else:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            text = "\n".join(lines)
    return text


@pytest.mark.parametrize("seed", range(3))
def test_broken_files_are_refused_or_come_to_themselves(seed):
    chance = random.Random(seed)
    texts = [path.read_text() for path in sorted(CORPUS.glob("*/*.yaml"))]
    words = sorted({word for text in texts for word in text.replace("{", " ").replace("}", " ").replace(",", " ").split()} | set(_ODD))
    modules = [str(CORPUS / "plugins_in_python.py")]
    usable, refused = 0, []
    for _ in range(_MUTATIONS):
        text = mutated(chance.choice(texts), words, chance)
        if not text:
            continue
        try:
            plan = read_plan(Given(text=text, allow_experimental=True, plugin_modules=modules))
            try_plan(plan, parse_flags([]))
        except ConfigError as error:
            refused.append(error)
            continue
        usable += 1
        again = read_plan(Given(text=plan.effective.as_yaml(), allow_experimental=True, plugin_modules=modules))
        assert again.effective.data == plan.effective.data, text
    assert all(error.problems and len(str(error).splitlines()) == len(error.problems) for error in refused)
    # Else nothing of the second half was tried.
    assert usable

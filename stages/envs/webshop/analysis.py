"""The terms of a text as Anserini's English analyzer has them (0.22.1, over Lucene 9): words, possessives and stop words dropped, stemmed.

A word is what Lucene's StandardTokenizer takes for one: the word breaks of Unicode (UAX #29), emoji sequences (UTS #51), each Han or
Hiragana character for itself, runs of Thai, Lao, Khmer or Burmese whole. `word_breaks.json` has the classes of characters that this
takes, as ranges of code points in hexadecimal. They were found by asking that analyzer about every code point in fourteen contexts, and
its version of Unicode fixes them, which is why no library's tables serve. The stemmer is Porter's with Martin's extensions, as Lucene's.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

LONGEST = 255  # characters of a word; a longer one is cut
_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was "
    "will with"
)
_STOP = frozenset(_STOP_WORDS.split())
_POSSESSIVE = re.compile("(.+)['\u2019\uff07][sS]", re.DOTALL)
_JOINER = "\u200d"
_RULES = {
    # Marks belong to what they follow. A picture takes the two that ask for a picture or a letter in its own way.
    "mark": "[{extend}{modifier}{southeast_extend}]",
    "marks": "[{extend}{modifier}{southeast_extend}\ufe0e\ufe0f]*+",
    "a_letter": "[{letter}{hebrew}]{marks}",
    "joints": "(?:[{connector}]{marks})",
    "abbreviation": "[{hebrew}]{marks}(?:'{marks}|\"{marks}[{hebrew}]{marks})",
    "letters": "(?:[{letter}]++{marks}|{a_letter})(?:[{mid_letter}]{marks}{a_letter})*+",
    "digits": "[{number}]++{marks}(?:[{mid_number}]{marks}[{number}]{marks})*+",
    "run": "(?:(?:{abbreviation}|{letters}|{digits})++|(?:[{katakana}]{marks})++)",
    "word": "{joints}*+{run}(?:{joints}++{run})*+{joints}*+",
    "a_picture": "[{picture}]{mark}*+\ufe0f?",
    "tone": "[{modifier}]{mark}*+",
    "link": f"(?:{_JOINER}*+(?<={_JOINER})(?:{{a_picture}}|{{tone}}))",
    "emoji": f"(?:{_JOINER}*+{{a_picture}}|{{tone}}){{link}}*+",
    "flag": "[{regional}]{marks}[{regional}]{marks}",
    "key": "[#*]{mark}*\ufe0f?\u20e3{mark}*+",
    "syllables": "(?:[{southeast}{southeast_extend}]{marks})++",
}
_ANY = "({a_picture}{link}++|{word}|{emoji}|{flag}|{syllables}|[{single}]{marks}|{key})|[{connector}]++"


def analyze(text: str) -> list[str]:
    """The terms of a text, in its order. No word goes over a space."""
    return [term for part in text.split(" ") for term in part_terms(part)]


@lru_cache(maxsize=1 << 16)
def part_terms(part: str) -> tuple[str, ...]:
    """The terms of a text without spaces."""
    words = [word for found in _pattern().findall(part) for word in _cut(found)]
    plain = [_lower(match[1] if (match := _POSSESSIVE.fullmatch(word)) else word) for word in words]
    return tuple(_stem(word) for word in plain if word not in _STOP)


@cache
def _pattern() -> re.Pattern[str]:
    """Finds words; a line of underscores, which is none, is found as ''."""
    known = {
        name: "".join("-".join(f"\\U{int(end, 16):08x}" for end in part.split("-")) for part in ranges.split())
        for name, ranges in json.loads(Path(__file__).with_name("word_breaks.json").read_text(encoding="utf-8")).items()
    }
    for name, rule in _RULES.items():
        known[name] = rule.format_map(known)
    return re.compile(_ANY.format_map(known))


def _cut(word: str) -> list[str]:
    if len(word) <= LONGEST:
        return [word] if word else []
    return [
        found
        for start in range(0, len(word), LONGEST)
        for found in _pattern().findall(word[start : start + LONGEST])
        if found
    ]


def _lower(word: str) -> str:
    """Lower case, each character for itself as in Java: a final sigma is no other letter, and a dotted I loses its dot."""
    return word.replace("\u03a3", "\u03c3").replace("\u0130", "i").lower()


def _stem(word: str) -> str:
    """The stem; letters beyond U+FFFF count as two, as in Java."""
    if max(word) <= "\uffff":
        return str(_stemmer().stem(word, to_lowercase=False))
    units = "".join(
        chr(int.from_bytes(pair, "little"))
        for pair in map(bytes, zip(*[iter(word.encode("utf-16-le"))] * 2, strict=True))
    )
    return str(_stemmer().stem(units, to_lowercase=False)).encode("utf-16-le", "surrogatepass").decode("utf-16-le")


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # here, as it takes a second

    return PorterStemmer(mode=PorterStemmer.MARTIN_EXTENSIONS)

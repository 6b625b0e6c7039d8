"""Nouns of titles, on which the type reward depends. Upstream tags titles with spaCy; a generated catalogue brings its own list."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from stages.core.process import Fault

SPACY_MODEL = "en_core_web_sm"


class NounError(Fault, RuntimeError):
    """Titles cannot be tagged: says what is missing."""


class Nouns(Protocol):
    """Finds nouns. `name` stands in the panels' manifest, since rewards depend on it."""

    @property
    def name(self) -> str: ...

    def __call__(self, titles: Sequence[str]) -> list[tuple[str, ...]]:
        """The nouns of each title in lower case and in order, repeats kept."""
        ...


class ListedNouns:
    """The title's words that stand in a list."""

    name = "listed"

    def __init__(self, nouns: Collection[str]) -> None:
        self._nouns = frozenset(nouns)

    def __call__(self, titles: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(word for word in re.findall(r"\w+", title.lower()) if word in self._nouns) for title in titles]


class SpacyNouns:
    """Tokens that spaCy tags NOUN or PROPN, as upstream. Some of the model's rules read the parser's dependencies; only its entity
    recogniser and lemmatizer change no tag, and are left out."""

    def __init__(self) -> None:
        """Raises `NounError` when spaCy or its model is not installed."""
        try:
            import spacy

            self._tagger: Any = spacy.load(SPACY_MODEL, exclude=["ner", "lemmatizer"])
        except (ImportError, OSError) as error:
            raise NounError(
                f"official WebShop data need spaCy's model {SPACY_MODEL} to tag titles ({error}); "
                f"install it: python -m spacy download {SPACY_MODEL}"
            ) from error
        self.name = f"spacy {SPACY_MODEL} {self._tagger.meta['version']}"

    def __call__(self, titles: Sequence[str]) -> list[tuple[str, ...]]:
        return [
            tuple(token.text.lower() for token in document if token.pos_ in ("NOUN", "PROPN"))
            for document in self._tagger.pipe(titles)
        ]

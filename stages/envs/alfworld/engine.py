"""ALFWorld's text engine, fast: textworld's state and grammar over Fast Downward, without the repeated work.

Text, admissible commands and wins are those of textworld's own `PddlEnv` under alfworld's `AlfredDemangler`; a test
compares them byte by byte. A stock step takes some 60 ms and a stock load 700, because textworld parses every action's
template anew at every step, copies contexts deeply, and translates a game four times an episode. Here templates and
grammars are parsed once a process, and a game is translated once and for all (`translation.TranslationCache`).

Importing this module patches textworld in this process. Not for use from two threads at once.
"""

from __future__ import annotations

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fast_downward
from alfworld.agents.utils.misc import Demangler
from textworld.envs.pddl import textgen
from textworld.envs.pddl.logic import Atom, GameLogic, PddlState
from textworld.generator.game import EntityInfo
from textworld.logic import Placeholder, Proposition, Rule, Type, Variable

from stages.envs.alfworld.translation import Translation, TranslationCache

REFUSAL = "Nothing happens."
"""What the engine says to a command that is not admissible."""

_TASK = re.compile(r'(?<=Your task is to: ).*?(?=\.")')
_TASK_MARK = "@@TASK@@"
_PUT, _MOVE = '"put {o} in/on {r}"', '"move {o} to {r}"'  # how a game's grammar writes it
# Data before json_2.1.2 say `put X in/on Y` and `You arrive at loc 7`; agents read and say the later words whatever the
# data. alfworld made json_2.1.2 of json_2.1.1 by these same changes (its scripts/patch_tw-pddl.py).
_OLD_WORDS = {
    _PUT: _MOVE,
    "You put the {o.name} in/on the {r.name}.": "You move the {o.name} to the {r.name}.",
    "You arrive at {lend.name}.": "You arrive at {r.name}.",
    "put (object) in/on (receptacle): ": "move (object) to (receptacle):  ",
}


@dataclass(frozen=True)
class Frame:
    """What a game shows: its text, the commands it would accept (sorted, without duplicates), and whether it is won."""

    text: str
    admissible: tuple[str, ...]
    won: bool


@dataclass(frozen=True)
class _Action:
    """A ground action: its operator's number in the SAS task, the command for it, and how its outcome is told."""

    id: int
    command: str
    feedback_rule: str
    mapping: dict[Any, Any]


class Engine:
    """Plays one game at a time.

    Make few and load many games in each: every engine holds a copy of the planner's library, which is never given back.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._library = fast_downward.load_lib()
        self._cache = TranslationCache(cache_dir)
        self._state: _State | None = None
        self._accepted: dict[str, _Action] = {}

    def start(self, game: Mapping[str, Any]) -> Frame:
        """Start a game from its beginning; `game` is what a `game.tw-pddl` holds.

        Raises KeyError for a missing part, ValueError for a grammar of an unknown kind, and what the parsers raise for
        bad text.
        """
        self._state = None
        grammar = read_grammar(game["grammar"])
        translation = self._cache.get(game["pddl_domain"], game["pddl_problem"])
        self._state = _State(self._library, _logic(game["pddl_domain"], grammar.text), translation)
        return self._frame(self._state, self._state.tell("#intro#", {}).replace(_TASK_MARK, grammar.sentence))

    def step(self, command: str) -> Frame:
        """Carry out a command. One that is not admissible changes nothing and yields the text "Nothing happens."."""
        if self._state is None:
            raise RuntimeError("no game is running: call start() before step()")
        action = self._accepted.get(command.strip())
        if action is None:
            return self._frame(self._state, REFUSAL)
        self._state.apply(action)
        return self._frame(self._state, self._state.tell(action.feedback_rule, action.mapping))

    def _frame(self, state: _State, text: str) -> Frame:
        self._accepted = {}
        for action in state.applicable():
            self._accepted.setdefault(action.command, action)  # of equal commands the engine takes the first
        return Frame(text, tuple(sorted(self._accepted)), bool(state.check_goal()))


class _State(PddlState):  # type: ignore[misc]  # textworld has no types
    """A game's state, begun from a translation: the library holds the truth, textworld's facts feed the grammar."""

    def __init__(self, library: Any, logic: GameLogic, translation: Translation) -> None:
        # PddlState's own __init__ would translate the problem twice; these are the fields its methods use.
        self._facts: dict[Any, set[Any]] = defaultdict(set)
        self._vars_by_name: dict[str, Any] = {}
        self._vars_by_type: dict[str, set[Any]] = defaultdict(set)
        self._var_counts: Counter[str] = Counter()
        self._logic = logic
        self._operators: dict[int, Any] = {}
        self._known_actions: dict[int, _Action] = {}
        self._parameters = {
            name: [Placeholder(p.strip("?"), kind) for p, kind in parameters]
            for name, parameters in translation.parameters.items()
        }
        self.downward_lib = library
        self.name2type = translation.objects
        known_types = {t.name for t in logic.types}
        for name, supertypes in translation.types.items():
            if name not in known_types:
                logic.types.add(Type(name, supertypes))
        library.load_sas(translation.sas.encode())
        self.add_facts(
            Proposition(predicate, [Variable(a, self.name2type[a]) for a in arguments])
            for predicate, *arguments in translation.facts
        )
        atoms = (Atom * library.get_state_size())()
        library.get_state(atoms)
        self.add_facts(a.get_fact(self.name2type) for a in atoms if not a.name.startswith("NegatedAtom"))
        self._entities = self._name_entities()

    def _name_entities(self) -> dict[str, Any]:
        entities = {v.name: EntityInfo(v.name, v.type) for fact in self.facts for v in fact.arguments}
        demangler = Demangler(game_infos=entities)
        for entity in entities.values():
            entity.name = demangler.demangle_alfred_name(entity.id)
            entity.definite, entity.indefinite = "the", "a"
        return entities

    def tell(self, rule: str, mapping: Mapping[Any, Any]) -> str:
        """A grammar rule or template as text, in the present state; `mapping` binds placeholders to variables."""
        context = {
            "state": self,
            "facts": None,  # carried about by textworld, read by nobody
            "variables": {placeholder.name: self._entities[v.name] for placeholder, v in mapping.items()},
            "mapping": mapping,
            "entity_infos": self._entities,
        }
        return str(self._logic.grammar.derive(rule, context))

    def applicable(self) -> list[_Action]:
        """The actions that can be taken now, in the library's order."""
        operators = (fast_downward.Operator * self.downward_lib.get_applicable_operators_count())()
        self.downward_lib.get_applicable_operators(operators)
        self._operators = {operator.id: operator for operator in operators}
        return [self._known_actions.get(o.id) or self._learn_action(o) for o in operators]

    def _learn_action(self, operator: Any) -> _Action:
        name, *arguments = operator.name.split()
        placeholders = self._parameters[name]
        # The translator appends the variables of a precondition's `exists` to the parameters; operators leave them out.
        mapping = {p: Variable(a, p.type) for p, a in zip(placeholders, arguments, strict=False)}
        described = self._logic.actions[name]
        action = _Action(operator.id, self.tell(described.template, mapping), described.feedback_rule, mapping)
        self._known_actions[operator.id] = action  # a command names things that never change their names
        return action


@dataclass(frozen=True)
class Grammar:
    """A game's grammar in the words of json_2.1.2, with a mark in place of its task's sentence; `release` is the first
    of the official data that spoke as the game does."""

    text: str
    sentence: str
    release: str


def read_grammar(grammar: str) -> Grammar:
    """Read the `grammar` of a `game.tw-pddl`.

    Games of one release differ in nothing but the sentence: with a mark in its place they share one parsed grammar.
    Raises ValueError when there is no such sentence, or no way that this engine knows to put a thing down.
    """
    task = _TASK.search(grammar)
    if task is None:
        raise ValueError('the grammar holds no sentence "Your task is to: ...": this is no ALFWorld game')
    release = "json_2.1.1" if _PUT in grammar else "json_2.1.2"
    for old, new in _OLD_WORDS.items():
        grammar = grammar.replace(old, new)
    if _MOVE not in grammar:
        raise ValueError(
            "the grammar is of an unknown kind: things are put down neither by `move X to Y` nor by `put X in/on Y`"
        )
    return Grammar(_TASK.sub(_TASK_MARK, grammar, count=1), task.group(), release)


@cache
def _logic(domain: str, grammar: str) -> GameLogic:
    return GameLogic(domain=domain, grammar=grammar)


def _copy(value: Any) -> Any:
    """As deep a copy as textgen needs: symbols and contexts are replaced there, what they point to never changes."""
    if isinstance(value, list):
        return [_copy(v) for v in value]
    if isinstance(value, dict):
        return dict(value)
    value = copy.copy(value)
    if isinstance(value, textgen.ListSymbol):
        value.symbol = copy.copy(value.symbol)
    return value


def _evaluate(symbol: Any, context: Any = None) -> list[Any]:
    # textgen's own version puts the variables into locals(), which does nothing from Python 3.13 on (PEP 667).
    return [textgen.TerminalSymbol(eval(symbol.expression, {}, (context or symbol.context)["variables"]))]


def _patch_textworld() -> None:
    parse = cache(textgen._parse_and_convert)
    parse_query = cache(Rule.parse_conjunctive_query)

    def parse_once(text: str, rule_name: str = "symbols", trace: bool = False) -> list[Any]:
        return list(_copy(parse(text, rule_name=rule_name)))

    textgen._parse_and_convert = parse_once
    textgen.deepcopy = _copy
    textgen.EvalSymbol.derive = _evaluate
    Rule.parse_conjunctive_query = staticmethod(parse_query)


_patch_textworld()

"""Every sentence a hint about household tasks can be, in one place: imperative, with placeholders in braces, at most 120 characters as used.

The warm-up shows some of these sentences on made-up tools, so that the embedded model learns to read this kind of hint;
a wording belongs here and nowhere else. `{{object}}` in a form is the literal placeholder `{object}`.
"""

from __future__ import annotations

TOOL_FORMS: tuple[str, ...] = (
    "To {verb} {{object}}: take it, go to {{{tool}}}, "
    "then '{verb} {{object}} with {{{tool}}}' before putting it in its place.",
    "First take {{object}}, go to {{{tool}}} and '{verb} {{object}} with {{{tool}}}'; only then bring it to its place.",
)
"""How to use a tool on the thing in hand; fields `verb` and `tool`, both as the environment spells them."""

USE_FORMS: tuple[str, ...] = (
    "Take {{object}} first, carry it to the place where {{{tool}}} is, then '{verb} {{{tool}}}'.",
    "With {{object}} in hand, go to the place that holds {{{tool}}} and '{verb} {{{tool}}}'.",
)
"""How to use a thing that stays where it is while another is in hand; fields `verb` and `tool`."""

STEP_FORM = "The task says '{word}': see to that with an action of its own before {{object}} goes to its place."
"""The goal's verb or adjective was never seen to; field `word`, as the goal says it. No tool is known."""

REFUSED = "Never repeat an action that gave 'Nothing happens.'; do something else."
FORMAT = "End every reply with one line 'Action:' that holds one command."
ABSENT_OBJECT = "Take {object} only if the last observation lists it, and use the number listed there."
HAND_FULL = "Only one thing fits in hand: put down what you hold before you take another."
ABSENT_PLACE = "Go only to places that the first observation lists; don't make up numbers."
UNVISITED = "Keep searching: go to the places not visited yet, one after the other, until {object} is found."
REVISITED = "Don't search a place twice; go on to the next place not visited yet."
CLOSED = "If {receptacle} is closed, open it and look inside before going on."
UNTAKEN = "As soon as {object} is listed, take it with 'take {object} from {receptacle}'."
WRONG_OBJECT = "Take only the {object} that the task names; leave other things where they are."
UNPLACED = "With {object} ready in hand, go to {receptacle} and 'move {object} to {receptacle}'."
SECOND = "If the task asks for two, put the first {object} in its place, then look for the second."
REPEATED = "If an action changed nothing, don't do it again; try another place or action."

GENERIC: tuple[str, ...] = (
    REFUSED,
    FORMAT,
    ABSENT_OBJECT,
    HAND_FULL,
    ABSENT_PLACE,
    UNVISITED,
    REVISITED,
    CLOSED,
    UNTAKEN,
    WRONG_OBJECT,
    UNPLACED,
    SECOND,
    REPEATED,
)
"""Lessons that name no tool: true in every task, useful in some."""

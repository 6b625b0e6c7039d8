"""Every chat template that trl ships, on a byte tokenizer with its end token: what is played, and what is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trl
from tiny import make_tokenizer

from stages.core.records import Message
from stages.core.thinking import aloud
from stages.models.chat import Chat, ChatError
from stages.models.conversation import IGNORED, Conversation, Encoded, examples, way

FOLDER = Path(trl.__file__).parent / "chat_templates"
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "diffusion_gemma": "<turn|>",
    "gemma": "<end_of_turn>",
    "gemma4": "<turn|>",
    "glm4": "<|endoftext|>",
    "gptoss": "<|return|>",
    "idefics3": "<end_of_utterance>",
    "llama3": "<|eot_id|>",
    "llava": "</s>",
    "muse": "<|eot|>",
    "phi3": "<|end|>",
    "smolvlm": "<end_of_utterance>",
}
"""By the beginning of a family's name; all others end with ChatML's."""
CONTROL = re.compile(r"<\|[\w ]+\|>|<\|\w+>|<\w+\|>|</?think>")
"""Tokens that templates write."""
DATED = {"gptoss", "llama3_2"}
DAY = {"strftime_now": "2026-01-31"}

ANEW_AFTER_THOUGHTS = {"diffusion_gemma", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5", "qwen3"}
ANEW_AFTER_THOUGHTS |= {"lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl"}
ANEW = {"deepseek_r1_distill", "deepseekv3", "glm4moe", "gptoss", "idefics3", "llava_next", "smolvlm"}
ANEW |= {"nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"}
ANEW |= {"qwen3_5_nothink", "qwen3_5_think", "qwen3_6"}
KEEPING = {"muse_glimmer", "qwen3_8"}  # show a model its earlier thoughts
UNKNOWING = {"cohere", "cohere2", "gemma", "gemma3", "idefics3", "lfm2", "lfm2_v2", "llama3", "llama3_1"}
UNKNOWING |= {"llama3_2", "llava_next", "phi3", "phi3_5", "qwen2_5", "qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl"}
UNKNOWING |= {"smolvlm"}
"""Families whose templates know no thoughts and take them for what is said."""

REPLIES = {
    "plain": ("Action: open box 1", "Action: take mug 1", "Action: look", "Action: end"),
    "thoughts": tuple(f"<think>\nThought {n}.\n</think>\n\nAction: look" for n in range(4)),
    "line breaks": ("Action: look\n", "\n\nAction: look", " Action: look \n", "Action: end"),
    "empty": ("", "Action: look", "", ""),
    "unclosed thought": (
        "<think>\nWhat now? Action: fly",
        "Action: look",
        "<think>\nHm.\n</think>\n\nAction: end",
        "x",
    ),
    "control tokens": ("Action: buy mug{end}\n", "{end}", "Think: {end} or <s>?\nAction: end", "Action: end"),
}
OBSERVATIONS = ("You see a box 1.", "The box 1 is open. In it is the mug 1.", "", "It holds {end} and <s>.\n")


SPOKEN = (Message("system", "You act."), Message("user", "Hi."))
THOUGHT = "Maybe.\nAction: fly"
MARKED = {
    "gptoss": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>Action: look",
    "muse_glimmer": f" to=self<|message|>{THOUGHT}<|eom|><|start|>assistant to=user<|message|>Action: look",
    **dict.fromkeys(
        ("diffusion_gemma", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5"),
        f"<|channel>thought\n{THOUGHT}\n<channel|>Action: look",
    ),
}
"""What models write whose marks of thoughts are not `<think>`."""


def chat_of(family: str, **arguments: Any) -> Chat:
    tokenizer = make_tokenizer()
    names = sorted((name for name in ENDS if family.startswith(name)), key=len)
    tokenizer.add_special_tokens({"eos_token": ENDS[names[-1]] if names else "<|im_end|>", "bos_token": "<s>"})
    tokenizer.chat_template = (FOLDER / f"{family}.jinja").read_text(encoding="utf-8")
    tokenizer.add_special_tokens({"extra_special_tokens": sorted({*CONTROL.findall(tokenizer.chat_template)})})
    return Chat(tokenizer, {**(DAY if family in DATED else {}), **arguments})


def played(chat: Chat, replies: Sequence[str]) -> tuple[list[Message], list[list[int]]]:
    """A conversation as an engine holds it, and the ids of the prompts that the model met. A thought that the prompt has opened the model
    goes on with."""
    end = chat.tokenizer.eos_token
    talk = [Message("system", "You act.")]
    conversation, prompts = Conversation(), []
    for observation, reply in zip(OBSERVATIONS, replies, strict=True):
        talk.append(Message("user", observation.format(end=end)))
        conversation.ask(chat, talk)
        prompts.append(list(conversation.ids))
        text = chat.read(reply.format(end=end).removeprefix(chat.opener))
        conversation.answer(chat, text)
        talk.append(Message("assistant", text, train=True))
    return talk, prompts


def lessons(found: Sequence[Encoded]) -> list[tuple[list[int], list[int]]]:
    """What stands before each trained reply, and the reply."""
    pairs = []
    for example in found:
        labels = [*example.labels, IGNORED]
        starts = [n for n in range(1, len(labels)) if labels[n] != IGNORED and labels[n - 1] == IGNORED]
        for start in starts:
            end = labels.index(IGNORED, start)
            pairs.append((example.input_ids[:start], example.input_ids[start:end]))
    return pairs


def test_there_are_templates_of_41_families() -> None:
    assert len(FAMILIES) == 41
    assert set(FAMILIES) >= ANEW | ANEW_AFTER_THOUGHTS | UNKNOWING


@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_is_trained_on_the_ids_that_it_meets(family: str, replies: Sequence[str]) -> None:
    chat = chat_of(family)
    talk, prompts = played(chat, replies)
    taught = lessons(examples(chat, talk))
    assert [before for before, _ in taught] == prompts
    assert [chat.decode(reply) for _, reply in taught] == [m.content for m in talk if m.role == "assistant"]
    assert all(reply[-1] == chat.end for _, reply in taught)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_what_the_template_writes(family: str) -> None:
    chat = chat_of(family)
    talk = [Message("user", "Hi."), Message("assistant", "Ho."), Message("user", "The mug, then?")]
    vision = family in {"idefics3", "llava_next", "smolvlm"}
    content = [[{"type": "text", "text": m.content}] if vision else m.content for m in talk]
    plain = [{"role": m.role, "content": text} for m, text in zip(talk, content, strict=True)]
    if family in DATED:
        assert "2026" in chat.prompt(talk)
        return
    if family == "muse_glimmer":
        plain.insert(0, {"role": "system", "content": "You act."})
        talk.insert(0, Message("system", "You act."))
    ids = chat.tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_dict=False)
    assert chat.encode(chat.prompt(talk)) == ids


@pytest.mark.parametrize("family", FAMILIES)
def test_control_tokens_in_texts_stay_text(family: str) -> None:
    chat = chat_of(family)
    tokenizer = chat.tokenizer
    special = {tokenizer.eos_token_id, tokenizer.bos_token_id}

    def prompt(word: str) -> list[int]:
        said = [Message("system", f"Act {word}."), Message("user", f"A {word}."), Message("assistant", f"Buy {word}.")]
        return chat.encode(chat.prompt([*said, Message("user", f"Another {word}.")]))

    forged, clean = prompt(f"mug{tokenizer.eos_token}<s>"), prompt("mug")
    assert [i for i in forged if i in special] == [i for i in clean if i in special]
    assert tokenizer.decode(forged).replace(f"mug{tokenizer.eos_token}<s>", "mug") == tokenizer.decode(clean)


@pytest.mark.parametrize("family", FAMILIES)
def test_thoughts_are_kept_out_of_the_history_where_the_family_wants_it(family: str) -> None:
    chat = chat_of(family)
    _, prompts = played(chat, REPLIES["thoughts"])
    last = chat.tokenizer.decode(prompts[-1])
    shown = [f"Thought {n}." in last for n in range(3)]
    assert shown == [family in UNKNOWING | KEEPING] * 3
    assert last.count("Action: look") == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_prompts_grow_as_is_said_of_it(family: str) -> None:
    words = way(chat_of(family))
    assert ("anew each turn" in words) == (family in ANEW)
    assert ("anew once a reply holds a thought" in words) == (family in ANEW_AFTER_THOUGHTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_appending_template_gives_one_example_and_a_rewriting_one_an_example_a_turn(family: str) -> None:
    chat = chat_of(family)
    talk, _ = played(chat, REPLIES["thoughts" if chat.opener else "plain"])
    assert len(examples(chat, talk)) == (4 if family in ANEW else 1)


def test_thinking_is_switched_off_by_an_argument() -> None:
    assert chat_of("qwen3_5_think").opener == "<think>\n"
    off = chat_of("qwen3_5_think", enable_thinking=False)
    assert off.opener == "" and off.prompt([Message("user", "Hi.")]).endswith("<think>\n\n</think>\n\n")


def test_which_models_may_think() -> None:
    thinking = {family for family in FAMILIES if chat_of(family).thinks}
    assert thinking >= {"qwen3", "qwen3_5_think", "deepseekv3", "glm4moe", "nemotron_3_nano"}
    assert not thinking & {"qwen2_5", "qwen3_5_nothink", "qwen3_instruct_2507", "llama3_1", "gemma3"}


@pytest.mark.parametrize("family", MARKED)
def test_thoughts_in_a_familys_own_marks_are_thoughts(family: str) -> None:
    chat = chat_of(family)
    text = chat.read(MARKED[family])
    assert (chat.thinks, aloud(text).strip(), text.count(THOUGHT)) == (True, "Action: look", 1)
    marked = chat.tokenizer(MARKED[family], add_special_tokens=False)["input_ids"]
    assert chat.encode(chat.written(text)) == marked
    assert chat.decode([*marked, chat.end]) == text
    unclosed = chat.read(MARKED[family].partition("fly")[0])
    assert aloud(unclosed).strip() == "" and chat.read(chat.written(unclosed)) == unclosed
    talk = [*SPOKEN, Message("assistant", text), Message("user", "Go on.")]
    assert (THOUGHT in chat.prompt(talk)) == (family in KEEPING)


@pytest.mark.parametrize(
    ("family", "before"), [("gptoss", "<|channel|>final<|message|>"), ("muse_glimmer", " to=user<|message|>")]
)
def test_what_a_family_writes_before_it_speaks_is_no_part_of_the_reply(family: str, before: str) -> None:
    chat = chat_of(family)
    assert (chat.read(f"{before}Action: look"), chat.written("Action: look")) == (
        "Action: look",
        f"{before}Action: look",
    )
    talk = [*SPOKEN, Message("assistant", "Action: look"), Message("user", "Go on.")]
    assert chat.prompt(talk).count(f"assistant{before}Action: look") == 1


@pytest.mark.parametrize("reasoning", [True, False])
def test_a_reasoning_cohere_opens_its_answer_after_its_thought(reasoning: bool) -> None:
    tokenizer = chat_of("cohere2").tokenizer
    asks = "{% if not reasoning %}<|START_THINKING|><|END_THINKING|>{% endif %}{% endif %}"
    tokenizer.chat_template = tokenizer.chat_template.removesuffix("<|START_RESPONSE|>{% endif %}") + asks
    tokenizer.add_special_tokens({"extra_special_tokens": CONTROL.findall(tokenizer.chat_template)})
    chat = Chat(tokenizer, {"reasoning": reasoning})
    written = "<|START_RESPONSE|>Action: look<|END_RESPONSE|>"
    assert (chat.thinks, chat.read(written), chat.written("Action: look")) == (
        reasoning,
        "Action: look",
        "<|START_RESPONSE|>Action: look",
    )
    text = chat.read(f"<|START_THINKING|>{THOUGHT}<|END_THINKING|>{written}")
    assert text == f"<think>{THOUGHT}</think>Action: look"
    talk = [Message("user", "Hi."), Message("assistant", text), Message("user", "Go on.")]
    assert "<|START_RESPONSE|>Action: look<|END_RESPONSE|>" in chat.prompt(talk) and THOUGHT not in chat.prompt(talk)


def test_a_reply_begins_with_the_thought_that_its_prompt_has_opened() -> None:
    chat = chat_of("deepseekv3")
    assert chat.read("Hm.\n</think>\n\nAction: look") == "<think>\nHm.\n</think>\n\nAction: look"
    assert chat.written("<think>\nHm.\n</think>\n\nAction: look") == "Hm.\n</think>\n\nAction: look"


@pytest.mark.parametrize("family", sorted(DATED))
def test_no_date_enters_a_prompt_unless_it_is_fixed(family: str) -> None:
    dated = chat_of(family)
    assert ("31 Jan 2026" in dated.prompt([Message("user", "Hi.")])) or family == "gptoss"
    with pytest.raises(ChatError, match="writes today's date into prompts"):
        Chat(dated.tokenizer)
    with pytest.raises(ChatError, match="a day such as '2026-01-31' expected, found 'today'"):
        Chat(dated.tokenizer, {"strftime_now": "today"})


def test_a_date_may_be_fixed_by_the_templates_own_argument() -> None:
    tokenizer = chat_of("llama3_2").tokenizer
    assert "Today Date: 26 Jul 2024" in Chat(tokenizer, {"date_string": "26 Jul 2024"}).prompt([Message("user", "Hi.")])


@pytest.mark.parametrize(
    "asked", ["{% set form = '%Y' %}{{ strftime_now(form) }}", "{% set clock = strftime_now %}{{ clock('%Y') }}"]
)
def test_a_date_in_a_form_that_cannot_be_seen_is_refused(asked: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = asked + tokenizer.chat_template
    with pytest.raises(ChatError, match="in a form that is not written out in it"):
        Chat(tokenizer, DAY)


def test_a_date_is_fixed_however_its_question_is_spaced() -> None:
    tokenizer = make_tokenizer()
    asked = "{# strftime_now #}{% if strftime_now is defined %}{{ strftime_now ( '%Y' ) }}{% endif %}"
    tokenizer.chat_template = asked + tokenizer.chat_template
    assert Chat(tokenizer, {"strftime_now": "1999-01-31"}).prompt([Message("user", "Hi.")]).startswith("1999<|im_start")


def test_where_there_is_no_system_role_its_text_opens_the_first_user_message() -> None:
    chat = chat_of("gemma")
    text = chat.prompt([Message("system", "You act."), Message("user", "A box.")])
    assert text == "<s><start_of_turn>user\nYou act.\n\nA box.<end_of_turn>\n<start_of_turn>model\n"

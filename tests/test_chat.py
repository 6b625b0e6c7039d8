"""What the model sees, in training and in play, token by token."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stages.core.records import Message
from stages.engines import cpu
from stages.models.chat import IGNORED, ChatError, context_text, encode, encode_text, render

pytest_plugins = ["tiny"]

TALK = (
    Message("system", "You act."),
    Message("user", "You see a box 1."),
    Message("assistant", "Think: the box.\nAction: open box 1", train=True),
    Message("user", "Nothing happens."),
    Message("assistant", "Action: sing", train=False),
    Message("user", "It's open. ☃"),
    Message("assistant", " spaces stay \n", train=True),
)

FORGETFUL = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if loop.last %}
{{ message['content'] }}{% else %}{{ message['content'].split('Action:')[-1] }}{% endif %}{{ '<|im_end|>\n' }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
TRIMMING = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
COUNTING = "{{ messages | length }} messages\n"


def with_template(tokenizer: Any, template: str) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template if template else tokenizer.chat_template
    return other


def trained_text(tokenizer: Any, labels: Sequence[int]) -> list[str]:
    """The stretches of tokens that carry loss, as text."""
    stretches: list[list[int]] = []
    before = IGNORED
    for label in labels:
        if label != IGNORED:
            if before == IGNORED:
                stretches.append([])
            stretches[-1].append(label)
        before = label
    return [tokenizer.decode(ids) for ids in stretches]


def test_loss_falls_on_trained_replies_with_their_end_token_and_on_nothing_else(tiny_tokenizer: Any) -> None:
    encoded = encode(tiny_tokenizer, TALK)
    assert trained_text(tiny_tokenizer, encoded.labels) == [
        "Think: the box.\nAction: open box 1<|im_end|>",
        " spaces stay \n<|im_end|>",
    ]
    assert len(encoded.input_ids) == len(encoded.labels)
    assert all(label in (IGNORED, token) for token, label in zip(encoded.input_ids, encoded.labels, strict=True))


def test_a_conversation_is_encoded_as_the_template_writes_it(tiny_tokenizer: Any) -> None:
    text = render(tiny_tokenizer, TALK, reply_next=False)
    assert tiny_tokenizer.decode(encode(tiny_tokenizer, TALK).input_ids) == text.removesuffix("\n")


def test_the_prefix_never_changes_as_a_conversation_grows(tiny_tokenizer: Any) -> None:
    whole = encode(tiny_tokenizer, TALK)
    for end in (3, 5):
        part = encode(tiny_tokenizer, TALK[:end])
        assert whole.input_ids[: len(part.input_ids)] == part.input_ids
        assert whole.labels[: len(part.labels)] == part.labels


def test_contexts_and_replies_in_turn_make_up_the_conversation(tiny_tokenizer: Any) -> None:
    ids: list[int] = []
    for known, end in ((0, 2), (3, 4), (5, 6)):
        ids += encode_text(tiny_tokenizer, context_text(tiny_tokenizer, TALK[:end], known))
        ids += [*encode_text(tiny_tokenizer, TALK[end].content), tiny_tokenizer.eos_token_id]
    assert ids == encode(tiny_tokenizer, TALK).input_ids


def test_a_reply_that_the_template_would_merge_with_its_header_keeps_its_own_tokens(tiny_tokenizer: Any) -> None:
    template = "{% for m in messages %}{{ m['role'] + 'i' + m['content'] + '<|im_end|>' }}{% endfor %}"
    tokenizer = with_template(tiny_tokenizer, template + "{% if add_generation_prompt %}assistanti{% endif %}")
    encoded = encode(tokenizer, [Message("user", "a"), Message("assistant", "n", train=True)])
    assert trained_text(tokenizer, encoded.labels) == ["n<|im_end|>"]


@pytest.mark.parametrize("template", [FORGETFUL, TRIMMING, COUNTING], ids=["forgetful", "trimming", "counting"])
def test_a_template_that_rewrites_earlier_turns_is_refused(tiny_tokenizer: Any, template: str) -> None:
    tokenizer = with_template(tiny_tokenizer, template)
    talk = [*TALK, Message("user", "Go on."), Message("assistant", "end", train=True)]
    with pytest.raises(ChatError, match="changes earlier turns as a conversation grows"):
        encode(tokenizer, talk)


def test_a_default_system_message_does_no_harm(tiny_tokenizer: Any) -> None:
    preamble = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nHelp.<|im_end|>\n' }}{% endif %}"
    tokenizer = with_template(tiny_tokenizer, preamble + tiny_tokenizer.chat_template)
    text = tokenizer.decode(encode(tokenizer, TALK[1:]).input_ids)
    assert text.startswith("<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\nYou see")
    assert text.count("system") == 1


@pytest.mark.parametrize("talk", [(), TALK[:2], TALK[:4]])
def test_a_conversation_without_a_last_reply_is_refused(tiny_tokenizer: Any, talk: tuple[Message, ...]) -> None:
    with pytest.raises(ChatError, match="must end with an assistant message"):
        encode(tiny_tokenizer, talk)


def test_training_sees_the_tokens_that_the_engine_fed(tiny_llama: Path, tiny_tokenizer: Any, monkeypatch: Any) -> None:
    fed: dict[int, int] = {}
    load = cpu.load_model

    def watched(*args: Any) -> Any:
        model = load(*args)
        encode_tokens = model.encode

        def note(ids: Any, layout: Any) -> Any:
            fed.update(zip(layout.positions.tolist(), ids.tolist(), strict=True))
            return encode_tokens(ids, layout)

        model.encode = note
        return model

    monkeypatch.setattr(cpu, "load_model", watched)
    engine = cpu.CpuEngine(
        tiny_llama, None, dtype="auto", slots=1, context=1024, max_new_tokens=12, temperature=0.0, stop=()
    )
    session = engine.open(0)
    talk = [TALK[0]]
    for observation in ("You see a box 1.", "Nothing happens.", "It's open. ☃", "The end."):
        talk.append(Message("user", observation))
        engine.submit(session, talk)
        [reply] = engine.poll()
        talk.append(Message("assistant", reply.text, train=True))
    encoded = encode(tiny_tokenizer, talk)
    end = reply.prompt_tokens
    assert [fed[position] for position in range(end)] == encoded.input_ids[:end]
    assert encoded.input_ids[end:] == [*encode_text(tiny_tokenizer, reply.text), tiny_tokenizer.eos_token_id]

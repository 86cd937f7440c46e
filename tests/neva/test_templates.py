from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.reasons import Reason
from neva.templates import (
    InsertMedia,
    MediaType,
    expand_for_display,
    get_template,
    insert_media,
    split_at_media,
)

V1 = get_template("v1")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
MARKERS = ("<extra_id_4>", "<extra_id_3>", "<extra_id_5>")  # start, patch, end
SCENE = "Can you describe the scene?"


def test_v1_expanded_equals_the_reference_to_the_byte() -> None:
    rendered = V1.render(insert_media(SCENE, "video", "right"))
    text = expand_for_display(rendered, *MARKERS, num_media_tokens=8 * 256)
    assert len(text) == 24775
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "6f83a2c51d3bf7b17152cc871717f29e3bf2d185fd5b42792d9596902485a1e4"
    )


def test_a_literal_image_tag_is_followed_by_a_newline() -> None:
    rendered = V1.render(insert_media("<image>What is it?", "image", None))
    assert rendered.endswith(" USER: <image>\nWhat is it? ASSISTANT:")
    expanded = expand_for_display(rendered, *MARKERS, num_media_tokens=256)
    span = f"<extra_id_4>{'<extra_id_3>' * 254}<extra_id_5>"
    assert expanded == f"{SYSTEM} USER: {span}\nWhat is it? ASSISTANT:"


def test_markers_come_on_top_of_the_patches_when_the_model_keeps_them() -> None:
    rendered = V1.render(insert_media(SCENE, "video", "left"))
    expanded = expand_for_display(rendered, *MARKERS, num_media_tokens=2048, use_im_start_end=True)
    assert expanded.count("<extra_id_3>") == 2048
    assert f"<extra_id_5>{SCENE} ASSISTANT:" in expanded


@pytest.mark.parametrize(
    ("media_type", "insert", "expected"),
    [
        ("video", "left", "<video>Who?"),
        ("video", "right", "Who?<video>"),
        ("image", "left", "<image>\nWho?"),
        ("image", "right", "Who?<image>\n"),
    ],
)
def test_the_tag_goes_in_without_a_separator(
    media_type: MediaType, insert: InsertMedia, expected: str
) -> None:
    assert insert_media("Who?", media_type, insert) == expected


def test_a_question_may_bring_its_own_tag() -> None:
    assert insert_media("In <video> who?", "video", None) == "In <video> who?"


@pytest.mark.parametrize(
    ("text", "media_type", "insert"),
    [
        ("no tag at all", "video", None),
        ("<video> already there", "video", "left"),
        ("<video> and <video>", "video", None),
        ("an <image> in a video job", "video", "left"),
        ("a <video> in an image job", "image", "right"),
    ],
)
def test_a_row_that_would_be_answered_blind_or_doubly_is_refused(
    text: str, media_type: MediaType, insert: InsertMedia | None
) -> None:
    with pytest.raises(RowError) as caught:
        insert_media(text, media_type, insert)
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_an_unknown_side_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="'top'"):
        insert_media("Who?", "video", "top")  # type: ignore[arg-type]


@settings(deadline=None)
@given(text=st.text().filter(lambda text: "<video>" not in text and "<image>" not in text))
def test_what_stands_around_the_media_is_the_prompt_without_its_tag(text: str) -> None:
    before, after = split_at_media(V1.render(insert_media(text, "video", "left")), "video")
    assert before == f"{SYSTEM} USER: "
    assert after == f"{text} ASSISTANT:"


def test_splitting_where_no_tag_stands_is_the_rows_error() -> None:
    with pytest.raises(RowError) as caught:
        split_at_media("nothing here", "video")
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_an_unknown_template_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'v2'; known: v1"):
        get_template("v2")


@pytest.mark.parametrize(
    ("generated", "clean"),
    [
        (" A hand.", "A hand."),
        ("A hand.", "A hand."),
        (" a red car</s>", "a red car"),
        ("data\n<extra_id_7>", "data"),
        (" It is a taxi", "It is a taxi"),
        (" twice</s></s> ", "twice"),
        (" </s>", ""),
        ("", ""),
        (" He wrote ASSISTANT: on it.", "He wrote ASSISTANT: on it."),
    ],
)
def test_v1_answers_lose_their_end_marker_and_nothing_else(generated: str, clean: str) -> None:
    assert V1.clean(generated) == clean

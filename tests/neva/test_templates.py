from __future__ import annotations

import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.markers import EXTRA_ID_MARKERS, markers_for
from neva.reasons import Reason
from neva.templates import (
    InsertMedia,
    MediaType,
    PromptTemplate,
    expand_for_display,
    get_template,
    insert_media,
    split_at_media,
)

V1 = get_template("v1")
ALL = [
    get_template(name)
    for name in (
        *("nvgpt", "nv_steerlm", "nv_dpo", "llama_2", "v1"),
        *("llama_3", "mistral", "yi_34b"),
    )
]
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
SCENE = "Can you describe the scene?"


def test_markers_come_on_top_of_the_patches_when_the_model_keeps_them() -> None:
    rendered = V1.render(insert_media(SCENE, "video", "left"))
    expanded = expand_for_display(rendered, EXTRA_ID_MARKERS, 2048, use_im_start_end=True)
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
@given(
    text=st.text().filter(lambda text: "<video>" not in text and "<image>" not in text),
    template=st.sampled_from(ALL),
)
def test_what_stands_around_the_media_is_the_prompt_without_its_tag(
    text: str, template: PromptTemplate
) -> None:
    before, after = split_at_media(template.render(insert_media(text, "video", "left")), "video")
    assert before == template.prefix
    assert after == f"{text}{template.suffix}"


@given(
    text=st.text().filter(lambda text: "<video>" not in text and "<image>" not in text),
    template=st.sampled_from(ALL),
    num_frames=st.integers(1, 12),
    tokens_per_frame=st.integers(3, 20),
    use_im_start_end=st.booleans(),
)
def test_as_many_patches_are_written_as_the_markers_leave_room_for(
    text: str,
    template: PromptTemplate,
    num_frames: int,
    tokens_per_frame: int,
    use_im_start_end: bool,
) -> None:
    assume("<|" not in text and "<extra_id" not in text)
    markers = markers_for(template.name)
    num_tokens = num_frames * tokens_per_frame
    rendered = template.render(insert_media(text, "video", "right"))
    shown = expand_for_display(rendered, markers, num_tokens, use_im_start_end)
    assert shown.count(markers.patch) == num_tokens - (0 if use_im_start_end else 2)
    assert shown.count(markers.start) == shown.count(markers.end) == 1
    assert shown.replace(markers.patch, "").replace(markers.start + markers.end, "<video>") == (
        rendered
    )


words = st.text(alphabet=string.ascii_letters + string.digits + " <>_|/[]:\n.", max_size=40)


@given(answer=words, template=st.sampled_from(ALL), num_markers=st.integers(0, 3))
def test_an_answer_survives_cleaning_whatever_ends_it(
    answer: str, template: PromptTemplate, num_markers: int
) -> None:
    answer = answer.strip()
    assume(not answer.endswith(template.end_markers))
    for marker in template.end_markers:
        assert template.clean(f" {answer}{(chr(10) + marker) * num_markers} ") == answer


@given(text=st.text(), template=st.sampled_from(ALL))
def test_cleaning_twice_changes_nothing_more(text: str, template: PromptTemplate) -> None:
    once = template.clean(text)
    assert template.clean(once) == once
    assert once in text


def test_splitting_where_no_tag_stands_is_the_rows_error() -> None:
    with pytest.raises(RowError) as caught:
        split_at_media("nothing here", "video")
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_an_unknown_template_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'v2'; known: llama_2, llama_3, .*, yi_34b"):
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

"""Values that the original's own functions gave (NeMo v2.0.0rc0, r2.0.0rc1, v2.0.0).

Those that are tested beside the code they belong to: frame indices (test_frames), the context that
overflows (test_row_prompt), preprocessing (worker/media/test_preprocess), colours and shapes
(worker/media/test_prepare_rules), weight packing (worker/checkpoint/test_nemo_views), sampling
(worker/engine/test_engine_sampling), the judge (judge/test_prompt, test_parse, test_scores).
"""

from __future__ import annotations

import hashlib
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.markers import markers_for
from neva.media_tokens import media_span, num_patch_tokens, tokens_per_frame
from neva.nemo_cleaning import Release, nemo_response
from neva.reasons import Reason
from neva.templates import InsertMedia, expand_for_display, get_template, insert_media

SCENE = "Can you describe the scene?"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
LABELS = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
VISUAL_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)


def expanded(template: str, insert: InsertMedia | None = "right", question: str = SCENE) -> str:
    text = get_template(template).render(insert_media(question, "video", insert))
    return expand_for_display(text, markers_for(template), num_media_tokens=8 * 256)


# ---- rendered prompts ----


@pytest.mark.parametrize(
    ("template", "num_characters", "sha256"),
    [
        ("nvgpt", 24937, "1a6e8d542efe45c11d162b7249d89e1fb80796ff6e09f87af1bd12e4d16f3051"),
        ("nv_steerlm", 24937, "1a6e8d542efe45c11d162b7249d89e1fb80796ff6e09f87af1bd12e4d16f3051"),
        ("v1", 24775, "6f83a2c51d3bf7b17152cc871717f29e3bf2d185fd5b42792d9596902485a1e4"),
        ("llama_3", 57727, "a11eeb2d1148d327543a3353166f4a7903e5c4446d5a0ff1938cf61aba14f072"),
    ],
)
def test_expanded_prompts_equal_the_originals_to_the_byte(
    template: str, num_characters: int, sha256: str
) -> None:
    text = expanded(template)
    assert len(text) == num_characters
    assert hashlib.sha256(text.encode()).hexdigest() == sha256


P = "<extra_id_3>"
SPAN = f"<extra_id_4>{P * 2046}<extra_id_5>"


@pytest.mark.parametrize(
    ("insert", "question", "user_line"),
    [
        ("right", SCENE, SCENE + SPAN),
        ("left", SCENE, SPAN + SCENE),
        (None, "In <video> who?", f"In {SPAN} who?"),
    ],
)
def test_the_steerlm_prompt_in_full(
    insert: InsertMedia | None, question: str, user_line: str
) -> None:
    assert expanded("nv_steerlm", insert, question) == (
        f"<extra_id_0>System\n{SYSTEM}\n\n<extra_id_1>User\n{user_line}\n"
        f"<extra_id_1>Assistant\n<extra_id_2>{LABELS}\n"
    )


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("nv_dpo", "<extra_id_0>System\n\n<extra_id_1>User\nU\n<extra_id_1>Assistant\n"),
        ("llama_2", f" [INST] <<SYS>>\n{VISUAL_SYSTEM}\n<</SYS>>\n\nU [/INST]"),
        ("v1", f"{SYSTEM} USER: U ASSISTANT:"),
        ("mistral", "<extra_id_6> [INST] U [/INST]"),
        (
            "llama_3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
            f"{VISUAL_SYSTEM}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("yi_34b", "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_every_template_writes_its_text(template: str, rendered: str) -> None:
    assert get_template(template).render("U") == rendered


@pytest.mark.parametrize("template", ["plain", "interleaved"])
def test_templates_of_training_are_refused(template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_template(template)
    assert caught.value.reason is Reason.UNSUPPORTED_MODEL


def test_an_image_prompt_on_one_frame() -> None:
    text = get_template("v1").render(insert_media("<image>What is it?", "image", None))
    shown = expand_for_display(text, markers_for("v1"), num_media_tokens=256)
    span = f"<extra_id_4>{P * 254}<extra_id_5>"
    assert shown == f"{SYSTEM} USER: {span}\nWhat is it? ASSISTANT:"


# ---- token counts ----


@pytest.mark.parametrize(
    ("image_size", "downsample", "expected"),
    [
        (224, False, 256),
        (336, False, 576),
        (384, False, 729),
        (448, False, 1024),
        (384, True, 196),
    ],
)
def test_tokens_of_one_frame(image_size: int, downsample: bool, expected: int) -> None:
    assert tokens_per_frame(image_size, 14, downsample=downsample) == expected


@pytest.mark.parametrize(
    ("num_frames", "use_im_start_end", "expected"),
    [(8, False, 2046), (8, True, 2048), (1, False, 254)],
)
def test_patch_tokens_in_the_prompt(num_frames: int, use_im_start_end: bool, expected: int) -> None:
    assert num_patch_tokens(num_frames * 256, use_im_start_end) == expected


# ---- feature placement: ids start 4, patch 3, end 5; features 1 to 6; other places keep -id ----


def placed(ids: list[int], use_im_start_end: bool) -> list[int]:
    start, stop = media_span(ids, 4, 5, 6, use_im_start_end)
    values = [-token for token in ids]
    values[start:stop] = range(1, 7)
    assert len(values) == len(ids)
    return values


def test_features_take_the_markers_places() -> None:
    assert placed([9, 4, 3, 3, 3, 3, 5, 8], False) == [-9, 1, 2, 3, 4, 5, 6, -8]


def test_features_stand_between_markers_that_are_kept() -> None:
    ids = [9, 4, 3, 3, 3, 3, 3, 3, 5, 8]
    assert placed(ids, True) == [-9, -4, 1, 2, 3, 4, 5, 6, -5, -8]


@pytest.mark.parametrize("use_im_start_end", [False, True])
@pytest.mark.parametrize(
    "ids",
    [
        [9, 4, 3, 3, 3, 3, 3],  # the end marker was cut off
        [9, 8, 7],  # no media
        [9, 4, 3, 5, 8],  # too few places
        [4, 3, 3, 3, 3, 3, 3, 3, 3, 5],  # too many
        [5, 3, 3, 3, 3, 3, 3, 4],  # the wrong way round
        [4, 3, 3, 3, 3, 5, 8, 4, 3, 3, 3, 3, 5],  # twice
    ],
)
def test_features_without_their_places_are_an_error_of_the_row(
    ids: list[int], use_im_start_end: bool
) -> None:
    with pytest.raises(RowError) as caught:
        media_span(ids, 4, 5, 6, use_im_start_end)
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


texts = st.lists(st.integers(6, 100), max_size=12)


@given(
    before=texts,
    after=texts,
    num_features=st.integers(3, 40),
    use_im_start_end=st.booleans(),
    num_too_many=st.integers(-2, 2),
)
def test_features_get_exactly_the_places_that_were_written_for_them(
    before: list[int],
    after: list[int],
    num_features: int,
    use_im_start_end: bool,
    num_too_many: int,
) -> None:
    num_patches = num_patch_tokens(num_features, use_im_start_end) + num_too_many
    ids = [*before, 4, *[3] * num_patches, 5, *after]
    if num_too_many:
        with pytest.raises(RowError):
            media_span(ids, 4, 5, num_features, use_im_start_end)
        return
    start, stop = media_span(ids, 4, 5, num_features, use_im_start_end)
    assert stop - start == num_features
    markers = [4, 5] if use_im_start_end else []
    assert ids[:start] + ids[stop:] == [*before, *markers, *after]
    assert 3 not in ids[:start] + ids[stop:]


# ---- cleaned responses: template, generated tail, the original's answer, ours ----

EITHER: tuple[Literal["nemo-rc0", "nemo-rc1"], ...] = ("nemo-rc0", "nemo-rc1")


def full_text(template: str, tail: str, question: str = "Q?") -> str:
    return get_template(template).render(insert_media(question, "video", "right")) + tail


@pytest.mark.parametrize("release", EITHER)
@pytest.mark.parametrize(
    ("template", "tail", "theirs", "ours"),
    [
        (
            "nv_steerlm",
            "Hand with a robot arm\n<extra_id_1>",
            "Hand with a robot arm",
            "Hand with a robot arm",
        ),
        ("nv_steerlm", "a red car\n<extra_id_1>", "red car", "a red car"),
        ("nv_steerlm", "data\n<extra_id_1>", "", "data"),
        ("nvgpt", "It is a taxi", "It is a", "It is a taxi"),
        ("v1", " A hand.", "A hand.", "A hand."),
        ("llama_2", " A hand.", "A hand.", "A hand."),
    ],
)
def test_answers_are_cleaned_and_the_originals_way_is_at_hand(
    release: Release, template: str, tail: str, theirs: str, ours: str
) -> None:
    assert nemo_response(full_text(template, tail), template, release) == theirs
    assert get_template(template).clean(tail) == ours


def test_rc0_answers_with_the_question_when_nv_dpo_never_stopped() -> None:
    text = full_text("nv_dpo", "Hand with a robot arm")
    assert nemo_response(text, "nv_dpo", "nemo-rc0") == "deo>"
    assert nemo_response(text, "nv_dpo", "nemo-rc1") == "Hand with a robot arm"
    assert get_template("nv_dpo").clean("Hand with a robot arm") == "Hand with a robot arm"


def test_rc0_reads_an_nv_dpo_answer_that_stopped() -> None:
    text = full_text("nv_dpo", "a red car\n<extra_id_1>")
    assert nemo_response(text, "nv_dpo", "nemo-rc0") == "a red car"
    assert nemo_response(text, "nv_dpo", "nemo-rc1") == "red car"


@pytest.mark.parametrize(("template", "tail"), [("llama_2", "A hand."), ("v1", "A hand.")])
def test_without_a_space_the_original_answers_with_the_whole_prompt(
    template: str, tail: str
) -> None:
    text = full_text(template, tail)
    assert nemo_response(text, template, "nemo-rc0") == text.strip()
    assert get_template(template).clean(tail) == "A hand."


@pytest.mark.parametrize(
    ("template", "tail", "theirs", "ours"),
    [
        ("llama_3", "A hand.<|eot_id|><|eot_id|>", "A hand.", "A hand."),
        ("yi_34b", "a minim<|im_end|>", "a", "a minim"),
        ("yi_34b", "A hand.\n<|im_end|>", "A hand.", "A hand."),
    ],
)
def test_answers_of_later_templates(template: str, tail: str, theirs: str, ours: str) -> None:
    assert nemo_response(full_text(template, tail), template, "nemo-rc1") == theirs
    assert get_template(template).clean(tail) == ours


def test_rc1_does_not_clean_mistral_at_all() -> None:
    text = full_text("mistral", " A hand.")
    assert nemo_response(text, "mistral", "nemo-rc1") == text.strip()
    assert get_template("mistral").clean(" A hand.") == "A hand."

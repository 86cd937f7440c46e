"""What a job and a model make of a row together, and what they refuse together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.markers import EXTRA_ID_MARKERS
from neva.model_profile import ModelProfile, read_model_profile
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.sentencepiece_tokens import SentencePieceTokenizer
from neva.tokens import Tokenizer
from tests.neva.jobs import job_spec
from tests.neva.sentencepiece_model import sentencepiece_model
from tests.neva.tiny_llava import write_model_dir

LLAMA = SentencePieceTokenizer.from_bytes(sentencepiece_model(), "tokenizer.model")
START, PATCH, END = 7, 6, 8  # <extra_id_4>, <extra_id_3>, <extra_id_5>

NEMO = ModelProfile(
    layout="nemo",
    template="nv_steerlm",
    context_tokens=4096,
    image_size=224,
    patch_size=14,
    tokens_per_frame=256,
    num_frames=8,
    image_token_id=PATCH,
    eos_token_ids=(2,),
    bos_token_id=1,
    add_bos=False,
    vocab_size=LLAMA.vocab_size,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
    resize_shortest_edge=224,
    crop_size=(224, 224),
    markers=EXTRA_ID_MARKERS,
)


def prompts(profile: ModelProfile = NEMO, tokenizer: Tokenizer = LLAMA, **job: Any) -> RowPrompts:
    return RowPrompts(job_spec(**job), profile, tokenizer)


# ---- media tokens ----


@pytest.mark.parametrize("use_im_start_end", [False, True])
@pytest.mark.parametrize("insert", ["left", "right"])
@pytest.mark.parametrize("template", ["nvgpt", "nv_dpo", "llama_2", "v1", "mistral"])
def test_the_markers_give_their_places_to_features_unless_they_are_kept(
    template: str, insert: str, use_im_start_end: bool
) -> None:
    profile = replace(NEMO, template=template, use_im_start_end=use_im_start_end)
    prompt = prompts(profile, insert_media_token=insert).build("a red car")
    assert prompt.num_media_tokens == 8 * 256
    assert (START in prompt.before_ids, END in prompt.after_ids) == (use_im_start_end,) * 2
    assert PATCH not in (*prompt.before_ids, *prompt.after_ids)
    if use_im_start_end:
        assert (prompt.before_ids[-1], prompt.after_ids[0]) == (START, END)


@settings(deadline=None, max_examples=50)
@given(
    question=st.text(alphabet="abcdefgh ?!\n", min_size=1, max_size=30).filter(str.strip),
    template=st.sampled_from(["nvgpt", "nv_dpo", "llama_2", "v1", "mistral"]),
    insert=st.sampled_from(["left", "right"]),
    use_im_start_end=st.booleans(),
    num_frames=st.integers(1, 3),
)
def test_the_ids_are_those_of_the_text_with_every_patch_written_out(
    question: str, template: str, insert: str, use_im_start_end: bool, num_frames: int
) -> None:
    profile = replace(
        NEMO, template=template, use_im_start_end=use_im_start_end, tokens_per_frame=5
    )
    prompt = prompts(profile, insert_media_token=insert, num_frames=num_frames).build(question)
    num_patches = 5 * num_frames - (0 if use_im_start_end else 2)
    span = "<extra_id_4>" + "<extra_id_3>" * num_patches + "<extra_id_5>"
    ids = LLAMA.encode(prompt.text_with_tag.replace("<video>", span))
    if template in ("llama_2", "v1", "mistral"):
        ids = [{PATCH: 0, 9: 1, 10: 2}.get(token, token) for token in ids]
    assert prompt.num_tokens == len(ids)
    assert list(prompt.before_ids) == ids[: len(prompt.before_ids)]
    assert list(prompt.after_ids) == ids[len(ids) - len(prompt.after_ids) :]


def test_surrogates_become_llamas_own_ids_in_some_templates_only() -> None:
    mistral = prompts(replace(NEMO, template="mistral")).build("a <extra_id_7> b")
    assert 1 in mistral.before_ids[:2]
    assert 2 in mistral.after_ids
    steerlm = prompts().build("a <extra_id_7> b")
    assert 10 in steerlm.after_ids


@pytest.mark.parametrize("marker", ["<extra_id_3>", "<extra_id_4>", "<extra_id_5>"])
def test_a_question_with_a_media_marker_is_refused(marker: str) -> None:
    with pytest.raises(RowError) as caught:
        prompts().build(f"a {marker} b")
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_markers_that_the_tokenizer_lacks_are_the_checkpoints_error() -> None:
    bare = SentencePieceTokenizer.from_bytes(sentencepiece_model(()), "tokenizer.model")
    with pytest.raises(ConfigError, match="extra_id_4") as caught:
        prompts(replace(NEMO, template="v1"), bare)
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


def test_a_template_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"llama_3 .*<\|begin_of_text\|>"):
        prompts(replace(NEMO, template="llama_3"))


def test_large_frames_that_overflow_the_context_are_refused_before_any_row() -> None:
    with pytest.raises(ConfigError, match="4608 visual tokens") as caught:
        prompts(replace(NEMO, tokens_per_frame=576))
    assert caught.value.reason is Reason.CONTEXT_OVERFLOW


# ---- a begin of sequence ----


def test_a_bos_is_added_where_it_is_asked_for() -> None:
    plain, asked = prompts().build("a car"), prompts(add_BOS=True).build("a car")
    assert asked.before_ids == (1, *plain.before_ids)


def test_a_bos_that_the_tokenizer_adds_and_the_template_writes_stands_there_once(
    tmp_path: Path,
) -> None:
    write_model_dir(tmp_path, adds_bos=True)
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'] }}")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    built = prompts(
        read_model_profile(tmp_path), Tokenizer.from_directory(tmp_path), add_BOS=True
    ).build("Who?")
    assert built.before_ids == (1,)


def test_a_bos_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="add_BOS"):
        prompts(replace(NEMO, bos_token_id=None), add_BOS=True)


# ---- images and videos on either kind of checkpoint ----


def test_an_image_is_one_frame_to_a_video_model_even_if_the_text_speaks_of_video() -> None:
    built = prompts(media_type="image").build("Is this a video still?")
    assert built.num_media_tokens == 256
    assert "<image>\nIs this a video still?" in built.text_with_tag


def test_a_video_is_several_frames_to_an_image_model() -> None:
    assert prompts(num_frames=3).build("Who?").num_media_tokens == 3 * 256


def test_the_other_medias_tag_is_refused_not_ignored() -> None:
    with pytest.raises(RowError) as caught:
        prompts(insert_media_token=None).build("<image>Who?")
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_a_single_frame_takes_one_frames_tokens() -> None:
    by_job = prompts(splice_single_frame="last")
    assert (by_job.num_frames, by_job.rules.splice_single_frame) == (1, "last")
    by_model = prompts(replace(NEMO, splice_single_frame="middle"))
    assert by_model.build("Who?").num_media_tokens == 256
    assert by_model.rules.splice_single_frame == "middle"
    overridden = prompts(replace(NEMO, splice_single_frame="middle"), num_frames=4)
    assert (overridden.num_frames, overridden.rules.splice_single_frame) == (4, None)


def test_all_frames_make_no_prompt_of_a_fixed_length() -> None:
    with pytest.raises(ConfigError, match="num_frames is -1"):
        prompts(replace(NEMO, num_frames=-1))
    assert prompts(replace(NEMO, num_frames=-1), num_frames=4).num_frames == 4
    assert prompts(replace(NEMO, num_frames=-1), media_type="image").num_frames == 1


def test_keep_on_a_tower_that_it_can_never_fit_is_refused() -> None:
    profile = replace(NEMO, image_aspect_ratio="keep")
    prompts(profile)
    with pytest.raises(ConfigError, match="336x336"):
        prompts(replace(profile, crop_size=(336, 336)))


# ---- quirks ----


def test_nothing_is_recorded_by_default() -> None:
    assert prompts().compat == {}


@pytest.mark.parametrize(
    ("of_model", "of_job", "in_effect", "recorded"),
    [
        ("rgb", None, "rgb", {}),
        ("rgb", "rgb", "rgb", {}),
        ("rgb", "bgr", "bgr", {"colorOrder": "bgr"}),
        ("bgr", None, "bgr", {"colorOrder": "bgr"}),
        ("bgr", "rgb", "rgb", {"colorOrder": "rgb"}),
    ],
)
def test_the_colour_order_is_the_jobs_or_the_checkpoints(
    of_model: str, of_job: str | None, in_effect: str, recorded: dict[str, str]
) -> None:
    profile = replace(NEMO, color_order=of_model)  # type: ignore[arg-type]
    built = prompts(profile, compat={"colorOrder": of_job})
    assert built.rules.color_order == in_effect
    assert built.compat == recorded
    images = prompts(profile, compat={"colorOrder": of_job}, media_type="image")
    assert images.rules.color_order == "rgb", "images always were"


def test_every_quirk_is_recorded_by_name() -> None:
    quirks = {"cleanResponse": "nemo-rc0", "repetitionPenalty": "nemo-rc0"}
    assert prompts(compat=quirks).compat == quirks


def test_a_cleaning_that_the_release_never_had_is_refused() -> None:
    mistral = replace(NEMO, template="mistral")
    prompts(mistral, compat={"cleanResponse": "nemo-rc1"})
    with pytest.raises(ConfigError, match=r"nemo-rc0 has no rule .* mistral"):
        prompts(mistral, compat={"cleanResponse": "nemo-rc0"})


# ---- ends and log probabilities ----


def test_a_templates_own_end_tokens_end_an_answer_where_the_tokenizer_knows_them() -> None:
    assert prompts().stop_strings == ("<extra_id_1>", "<extra_id_7>", "</s>")
    assert prompts(end_strings=["###"]).stop_strings == (
        *("###", "<extra_id_1>", "</s>", "<extra_id_7>"),
    )


def test_a_whole_vocabulary_a_token_has_its_limit() -> None:
    prompts(compute_logprob=True, all_probs=True)
    large = replace(NEMO, vocab_size=256_000)
    prompts(large, compute_logprob=True)
    with pytest.raises(ConfigError, match="lower tokens_to_generate to 8"):
        prompts(large, compute_logprob=True, all_probs=True)

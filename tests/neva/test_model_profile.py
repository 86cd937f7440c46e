from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neva.errors import ConfigError
from neva.model_profile import read_model_profile
from neva.reasons import Reason
from tests.neva.tiny_llava import config_files, write_model_dir

Files = dict[str, dict[str, Any]]


def test_a_llava_directory_tells_its_shape(tmp_path: Path) -> None:
    profile = read_model_profile(write_model_dir(tmp_path))
    assert profile.layout == "hf-llava"
    assert profile.template == "v1"
    assert profile.context_tokens == 1024
    assert profile.tokens_per_frame == 16
    assert profile.num_frames == 8
    assert profile.eos_token_ids == (2,)
    assert profile.crop_size == (64, 64)
    assert profile.image_mean == (0.48145466, 0.4578275, 0.40821073)
    assert not profile.add_bos


def test_the_config_may_say_how_many_frames(tmp_path: Path) -> None:
    files = config_files()
    files["config.json"]["num_frames"] = 4
    assert read_model_profile(write_model_dir(tmp_path, files)).num_frames == 4


def test_bos_is_added_exactly_where_the_tokenizer_adds_it(tmp_path: Path) -> None:
    files = config_files()
    del files["config.json"]["text_config"]["bos_token_id"]
    profile = read_model_profile(write_model_dir(tmp_path, files, adds_bos=True))
    assert profile.add_bos
    assert profile.bos_token_id == 1


def test_several_ends_and_the_class_token_are_read(tmp_path: Path) -> None:
    files = config_files()
    files["generation_config.json"]["eos_token_id"] = [2, 3]
    files["config.json"]["vision_feature_select_strategy"] = "full"
    files["config.json"]["image_token_id"] = 4
    profile = read_model_profile(write_model_dir(tmp_path, files))
    assert profile.eos_token_ids == (2, 3)
    assert profile.tokens_per_frame == 17


def test_siglip_resizes_both_sides_and_has_no_class_token(tmp_path: Path) -> None:
    files = config_files()
    files["config.json"]["vision_config"]["model_type"] = "siglip_vision_model"
    files["config.json"]["vision_feature_select_strategy"] = "full"
    files["preprocessor_config.json"] = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 64, "width": 64},
    }
    profile = read_model_profile(write_model_dir(tmp_path, files))
    assert profile.tokens_per_frame == 16
    assert (profile.resize_mode, profile.crop_size) == ("exact", (64, 64))
    assert profile.image_mean == profile.image_std == (0.5, 0.5, 0.5)


def test_the_config_or_the_preprocessor_asks_for_padding(tmp_path: Path) -> None:
    files = config_files()
    assert read_model_profile(write_model_dir(tmp_path, files)).image_aspect_ratio == "square"
    files["preprocessor_config.json"]["do_pad"] = True
    assert read_model_profile(write_model_dir(tmp_path, files)).image_aspect_ratio == "pad"
    files["config.json"]["image_aspect_ratio"] = "keep"
    assert read_model_profile(write_model_dir(tmp_path, files)).image_aspect_ratio == "keep"


def test_generation_config_may_be_missing(tmp_path: Path) -> None:
    files = config_files()
    del files["generation_config.json"]
    assert read_model_profile(write_model_dir(tmp_path, files)).eos_token_ids == (2,)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_model_dir(tmp_path) / name).unlink()
    with pytest.raises(ConfigError, match=name) as caught:
        read_model_profile(tmp_path)
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (write_model_dir(tmp_path) / name).write_text("{")
    with pytest.raises(ConfigError, match=name) as caught:
        read_model_profile(tmp_path)
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


def _edit(section: str, key: str, value: object) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        name, *inner = section.split("/")
        target = files[name]
        for step in inner:
            target = target[step]
        if value is None:
            del target[key]
        else:
            target[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_edit("config.json", "text_config", None), "text_config"),
        (_edit("config.json/text_config", "max_position_embeddings", None), "max_position"),
        (_edit("config.json/vision_config", "patch_size", "16"), "patch_size"),
        (_edit("config.json", "image_token_index", None), "image_token_id"),
        (_edit("config.json", "image_token_index", 9999), "9999"),
        (_edit("preprocessor_config.json", "image_mean", [0.5]), "image_mean"),
        (_edit("preprocessor_config.json/crop_size", "width", None), "width"),
    ],
)
def test_a_missing_or_wrong_key_is_named(
    tmp_path: Path, edit: Callable[[Files], None], named: str
) -> None:
    files = config_files()
    edit(files)
    with pytest.raises(ConfigError, match=named) as caught:
        read_model_profile(write_model_dir(tmp_path, files))
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_edit("config.json", "model_type", "qwen2_vl"), r"config\.json.*qwen2_vl.*only 'llava'"),
        (_edit("config.json", "model_type", "video_llava"), r"Video-LLaVA.*only 'llava'"),
        (_edit("config.json", "model_type", "llava_next"), r"LLaVA-NeXT.*only 'llava'"),
        (_edit("config.json", "model_type", "llava_next_video"), r"pools its frames.*only 'llava'"),
        (_edit("config.json", "model_type", "llava_onevision"), r"OneVision.*only 'llava'"),
        (_edit("config.json", "vision_feature_select_strategy", "cls"), "cls"),
        (_edit("config.json", "image_aspect_ratio", "anyres"), "anyres"),
        (_edit("config.json/vision_config", "image_size", 96), "96x96"),
        (_edit("preprocessor_config.json", "do_center_crop", False), "do_center_crop"),
        (_edit("preprocessor_config.json", "resample", 2), "resample"),
        (_edit("preprocessor_config.json", "rescale_factor", 1.0), "rescale_factor"),
        (_edit("preprocessor_config.json", "size", {"height": 96, "width": 96}), "both sides"),
        (_edit("preprocessor_config.json/size", "shortest_edge", 32), "smaller than the crop"),
    ],
)
def test_a_model_that_can_not_be_run_is_refused_by_name(
    tmp_path: Path, edit: Callable[[Files], None], named: str
) -> None:
    files = config_files()
    edit(files)
    with pytest.raises(ConfigError, match=named) as caught:
        read_model_profile(write_model_dir(tmp_path, files))
    assert caught.value.reason is Reason.UNSUPPORTED_MODEL

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.markers import EXTRA_ID_MARKERS
from neva.media_rules import media_rules
from neva.reasons import Reason
from tests.neva.jobs import job_spec
from tests.neva.nemo_directory import ARTIFACT, nemo_config, pack, write_clip, write_nemo


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


def test_a_neva_checkpoint_tells_its_shape(tmp_path: Path, clip: Path) -> None:
    directory = write_nemo(tmp_path / "nemo", nemo_config())
    file = pack(directory, tmp_path / "m.nemo")
    profile = LocalModel(file, vision=clip).profile()
    assert profile == LocalModel(directory, vision=clip).profile()
    assert profile.layout == "nemo"
    assert profile.template == "nv_steerlm"
    assert profile.context_tokens == 4096
    assert profile.tokens_per_frame == 256
    assert profile.num_frames == 8
    assert profile.image_token_id == 6  # <extra_id_3>
    assert profile.eos_token_ids == (0,)
    assert not profile.add_bos
    assert profile.vocab_size == 11
    assert profile.crop_size == (224, 224)
    assert profile.image_mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("image_size", "projector", "tokens"),
    [
        (224, "mlp2x_gelu", 256),
        (336, "linear", 576),
        (384, "mlp2x_gelu", 729),
        (384, "mlp_downsample", 196),
    ],
)
def test_tokens_of_a_frame(image_size: int, projector: str, tokens: int, tmp_path: Path) -> None:
    config = nemo_config()
    config["mm_cfg"]["mm_mlp_adapter_type"] = projector
    model = LocalModel(
        write_nemo(tmp_path / "nemo", config), vision=write_clip(tmp_path / "big", image_size)
    )
    assert model.profile().tokens_per_frame == tokens


def change(path: str, value: Any) -> dict[str, Any]:
    config = nemo_config()
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("num_layers", None, "has no 'num_layers'"),
        ("hidden_size", "big", "hidden_size must be an integer"),
        ("rotary_percentage", "half", "rotary_percentage must be a number"),
        ("mm_cfg.mm_mlp_adapter_type", "perceiver", "mm_mlp_adapter_type is 'perceiver'"),
        ("mm_cfg.use_lita", True, "LITA"),
        ("mm_cfg.lita.lita_video_arch", "temporal_all_resolution", "LITA"),
        ("data.sep_image_conv_front", True, "only false is supported"),
        ("mm_cfg.vision_encoder.crop_size", [336, 336], "crop_size is 336"),
        ("mm_cfg.vision_encoder.crop_size", [224, 336], "not a square"),
        ("mm_cfg", None, "no NeVA"),
        ("tokenizer.model", "nemo:other.json", "brings no tokenizer"),
        ("tokenizer.model", None, "brings no tokenizer"),
    ],
)
def test_what_is_missing_or_not_known_is_named(
    path: str, value: Any, words: str, tmp_path: Path, clip: Path
) -> None:
    directory = write_nemo(tmp_path / "nemo", change(path, value))
    with pytest.raises(ConfigError) as raised:
        LocalModel(directory, vision=clip).profile()
    assert words in raised.value.message
    assert "\n" not in raised.value.message
    assert str(directory) in raised.value.message


# ---- what the data section says ----


@pytest.mark.parametrize(
    ("version", "media_type", "expected"),
    [
        ("1.23.0", "video", "bgr"),
        ("2.0.0rc0", "video", "bgr"),
        ("2.0.0rc0", "image", "rgb"),
        ("2.0.0rc1", "video", "rgb"),
        ("2.0.0", "video", "rgb"),
        ("2.4.0", "video", "rgb"),
        (None, "video", "rgb"),
    ],
)
def test_colours_are_those_that_the_version_trained_videos_on(
    version: str | None, media_type: str, expected: str, tmp_path: Path, clip: Path
) -> None:
    config = change("data.media_type", media_type) | {"nemo_version": version}
    model = LocalModel(write_nemo(tmp_path / "nemo", config), vision=clip)
    profile = model.profile()
    assert profile.color_order == expected
    assert media_rules(job_spec(), profile).color_order == expected
    assert media_rules(job_spec(media_type="image"), profile).color_order == "rgb"
    assert media_rules(job_spec(compat={"colorOrder": "rgb"}), profile).color_order == "rgb"


@pytest.mark.parametrize(
    ("path", "value", "attribute", "expected"),
    [
        ("data.splice_single_frame", "middle", "splice_single_frame", "middle"),
        ("data.splice_single_frame", "middle", "num_frames", 1),
        ("data.splice_single_frame", "centre", "splice_single_frame", None),
        ("data.splice_single_frame", "null", "num_frames", 8),
        ("data.num_frames", 3, "num_frames", 3),
        ("data.num_frames", None, "num_frames", 8),
        ("data.image_aspect_ratio", "pad", "image_aspect_ratio", "pad"),
        ("data.image_aspect_ratio", "keep", "image_aspect_ratio", "keep"),
        ("data.image_aspect_ratio", "anything", "image_aspect_ratio", "square"),
        ("mm_cfg.use_im_start_end", True, "use_im_start_end", True),
        ("mm_cfg.use_im_start_end", None, "use_im_start_end", False),
        ("data.conv_template", None, "template", "nvgpt"),
        ("data.conv_template", "v1", "markers", EXTRA_ID_MARKERS),
    ],
)
def test_the_checkpoints_own_choices_are_read(
    path: str, value: Any, attribute: str, expected: Any, tmp_path: Path, clip: Path
) -> None:
    model = LocalModel(write_nemo(tmp_path / "nemo", change(path, value)), vision=clip)
    assert getattr(model.profile(), attribute) == expected


def test_a_tokenizer_put_beside_the_config_is_taken(tmp_path: Path, clip: Path) -> None:
    """For checkpoints that only name a tokenizer of the hub."""
    directory = write_nemo(tmp_path / "nemo", change("tokenizer.model", None))
    (directory / ARTIFACT).rename(directory / "tokenizer.json")
    assert LocalModel(directory, vision=clip).tokenizer().vocab_size == 11


@pytest.mark.parametrize("text", ["a: [", "- list", ""])
def test_a_config_that_is_no_mapping_is_refused(text: str, tmp_path: Path, clip: Path) -> None:
    directory = write_nemo(tmp_path / "nemo", nemo_config())
    (directory / "model_config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"model_config\.yaml") as raised:
        LocalModel(directory, vision=clip).profile()
    assert raised.value.reason is Reason.INVALID_CHECKPOINT


def test_a_tar_without_a_config_is_refused(tmp_path: Path, clip: Path) -> None:
    directory = write_nemo(tmp_path / "nemo", nemo_config())
    (directory / "model_config.yaml").unlink()
    with pytest.raises(ConfigError, match="is it a NeMo checkpoint"):
        LocalModel(pack(directory, tmp_path / "m.nemo"), vision=clip).profile()

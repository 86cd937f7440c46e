"""Several single-turn questions about one clip in one sequence, blind to each other.

A sequence is the shared part (text before the media, the media) and then one block per question.
Each block counts its positions from the end of the shared part and attends to the shared part and
to itself only, so every token gets exactly what it would get if its question were asked alone,
which is how inference asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from transformers import LlavaForConditionalGeneration

from neva.prompting import Prompt

NO_TARGET: Final = -100


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions about one clip. All prompts share `before_ids` and the media.

    Attributes:
        answers: ids of each answer, end of sequence included.
    """

    prompts: tuple[Prompt, ...]
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Tensors of a batch of conversations, padded on the right.

    Attributes:
        ids, positions: (batch, length).
        targets: (batch, length), the id to predict at each place, NO_TARGET elsewhere.
        is_media: (batch, length), True where a visual token stands.
        mask: (batch, 1, length, length), True where the query (rows) may see the key (columns).
        block_of: (batch, length), 0 in the shared part, then 1 for each question; -1 is padding.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    is_media: torch.Tensor
    mask: torch.Tensor
    block_of: torch.Tensor


def pack(conversations: Sequence[Conversation], image_token_id: int, pad_id: int) -> PackedBatch:
    """Lay the conversations out; see the module for what each token may see."""
    rows = [_lay_out(conversation, image_token_id) for conversation in conversations]
    length = max(len(row.ids) for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    positions = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, NO_TARGET)
    block_of = torch.full(shape, -1)
    for row_index, row in enumerate(rows):
        place = (row_index, slice(0, len(row.ids)))
        ids[place] = torch.tensor(row.ids)
        positions[place] = torch.tensor(row.positions)
        targets[place] = torch.tensor(row.targets)
        block_of[place] = torch.tensor(row.block_of)
    key, query = block_of[:, None, None, :], block_of[:, None, :, None]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return PackedBatch(
        ids=ids,
        positions=positions,
        targets=targets,
        is_media=ids == image_token_id,
        mask=causal & ((key == 0) | (key == query)),
        block_of=block_of,
    )


def hidden_states(
    model: LlavaForConditionalGeneration, batch: PackedBatch, pixels: torch.Tensor
) -> torch.Tensor:
    """Last hidden states (batch, length, hidden) of the language model.

    pixels: (batch * frames, 3, height, width), in the order of the batch.
    """
    embeddings = model.get_input_embeddings()(batch.ids)
    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[
        model.config.vision_feature_layer
    ]
    visual = model.model.multi_modal_projector(features[:, 1:])  # without the class token
    embeddings = embeddings.masked_scatter(
        batch.is_media[..., None], visual.flatten(0, 1).to(embeddings.dtype)
    )
    output: torch.Tensor = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    return output


@dataclass(slots=True)
class _Row:
    ids: list[int]
    positions: list[int]
    targets: list[int]
    block_of: list[int]


def _lay_out(conversation: Conversation, image_token_id: int) -> _Row:
    first = conversation.prompts[0]
    shared = [*first.before_ids, *[image_token_id] * first.num_media_tokens]
    row = _Row(
        ids=shared,
        positions=list(range(len(shared))),
        targets=[NO_TARGET] * len(shared),
        block_of=[0] * len(shared),
    )
    num_shared = len(shared)
    questions = zip(conversation.prompts, conversation.answers, strict=True)
    for block, (prompt, answer) in enumerate(questions, start=1):
        if prompt.before_ids != first.before_ids:
            raise ValueError(
                "questions of one conversation must share what stands before the media"
            )
        ids = [*prompt.after_ids, *answer[:-1]]
        row.ids += ids
        row.positions += range(num_shared, num_shared + len(ids))
        row.targets += [NO_TARGET] * (len(prompt.after_ids) - 1) + list(answer)
        row.block_of += [block] * len(ids)
    return row

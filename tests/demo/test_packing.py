from __future__ import annotations

from pathlib import Path

import pytest
import torch

from demo.packing import NO_TARGET, Conversation, hidden_states, pack
from demo.tiny_model import EOS_ID, IMAGE_ID, PAD_ID, build_model, build_tokenizer, save_preparation
from demo.training_data import TrainingData
from neva.prompting import Prompt
from neva.templates import InsertMedia


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    save_preparation(folder, build_tokenizer())
    return folder


@pytest.mark.parametrize("insert", ["left", "right"])
@torch.no_grad()
def test_a_packed_question_gets_what_it_gets_alone(model_dir: Path, insert: InsertMedia) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = TrainingData(model_dir, seed=3)
    model = build_model(data.tokenizer.vocab_size).eval()  # type: ignore[no-untyped-call]
    example = data.batch(2, insert)
    batch = example.batch
    packed = model.lm_head(hidden_states(model, batch, example.pixels))

    frames = example.pixels.view(2, 8, *example.pixels.shape[1:])
    for clip in range(2):
        shared = batch.ids[clip][batch.block_of[clip] == 0]
        for block in range(1, int(batch.block_of[clip].max()) + 1):
            inside = batch.block_of[clip] == block
            alone = model(
                input_ids=torch.cat([shared, batch.ids[clip][inside]])[None],
                pixel_values=frames[clip],
            ).logits[0, len(shared) :]
            torch.testing.assert_close(packed[clip][inside], alone, rtol=1e-4, atol=1e-4)


def test_targets_are_the_answers_and_their_end(model_dir: Path) -> None:
    data = TrainingData(model_dir, seed=4)
    batch = data.batch(1, "left").batch
    answers = [
        data.tokenizer.decode(batch.targets[0][(batch.block_of[0] == block)].clamp(min=0).tolist())
        for block in (1, 2, 3, 4)
    ]
    assert [text.split()[0] for text in answers] == ["It", "It", "The", "It"]
    assert all(text.startswith(" ") and text.endswith(".") for text in answers)
    assert int((batch.targets == EOS_ID).sum()) == 4
    assert bool((batch.targets[batch.is_media] == NO_TARGET).all())


def test_questions_that_share_no_beginning_can_not_be_packed() -> None:
    prompts = tuple(Prompt((number,), 2, (9,), "") for number in (1, 2))
    with pytest.raises(ValueError, match="share"):
        pack([Conversation(prompts, ((5, EOS_ID), (6, EOS_ID)))], IMAGE_ID, PAD_ID)

"""Train the demo model from nothing: `python -m demo.train OUTDIR`.

Two stages, both counted in steps. First the vision tower alone learns to see: every patch of a
single frame tells which colour and shape it shows and where that body's centre is (the stand-in for
CLIP's pretraining; without it the language model hardly starts to learn in that time). Then the
tower is frozen, as in LLaVA and NeVA, and projector and language model learn to answer about clips.

On one thread (the default) a rerun on the same processor and the same PyTorch gives the same file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from demo.packing import NO_TARGET, hidden_states
from demo.scenes import BACKGROUND, COLOURS, DIRECTIONS, MOVER, SHAPES, owner_map
from demo.tiny_model import (
    HIDDEN,
    IMAGE_SIZE,
    PATCH_SIZE,
    build_model,
    build_tokenizer,
    save_preparation,
)
from demo.training_data import Example, TrainingData
from neva.templates import InsertMedia

_SIDES: Final[tuple[InsertMedia, ...]] = ("left", "right")
_MIN_BODY_PIXELS: Final = 12  # a patch with fewer pixels of a body counts as background
_HINT_FROM_FRAME: Final = 3  # by then the motion can be seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, help="directory of the finished model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tower-steps", type=int, default=1800)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--clips", type=int, default=24, help="clips of one step")
    parser.add_argument("--right-every", type=int, default=4, help="0 = media on the left only")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    save_preparation(arguments.out, tokenizer)
    model = build_model(tokenizer.get_vocab_size())

    train_tower(model, TrainingData(arguments.out, seed=arguments.seed + 1), arguments.tower_steps)
    train_answers(
        model,
        TrainingData(arguments.out, seed=arguments.seed + 2),
        steps=arguments.steps,
        num_clips=arguments.clips,
        right_every=arguments.right_every,
    )

    model.half().save_pretrained(arguments.out)  # type: ignore[no-untyped-call]
    model.float()  # type: ignore[no-untyped-call]  # measured as saved, rounded to fp16
    accuracy = {
        insert: measure(model, TrainingData(arguments.out, seed=10_000), 256, insert)
        for insert in _SIDES
    }
    report = {
        "seed": arguments.seed,
        "tower_steps": arguments.tower_steps,
        "steps": arguments.steps,
        "clips_per_step": arguments.clips,
        "right_every": arguments.right_every,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "accuracy_without_codec": accuracy,
        "cpu_seconds": round(time.process_time()),
    }
    (arguments.out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report), flush=True)


def train_tower(
    model: LlavaForConditionalGeneration, data: TrainingData, steps: int, num_frames: int = 64
) -> None:
    """Teach the tower dense per-patch targets on single frames; leaves it frozen."""
    tower = model.model.vision_tower
    torch.nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.3)
    heads = torch.nn.ModuleDict(
        {
            "colour": torch.nn.Linear(HIDDEN, len(COLOURS) + 1),
            "shape": torch.nn.Linear(HIDDEN, len(SHAPES) + 1),
            "centre": torch.nn.Linear(HIDDEN, 2),
        }
    )
    weights = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    for step in range(steps):
        _set_learning_rate(optimiser, 2e-3, step, steps, warmup_steps=60)
        pixels, colour, shape, centre = _patch_targets(data, num_frames)
        seen = tower(pixels, output_hidden_states=True).hidden_states[
            model.config.vision_feature_layer
        ][:, 1:]  # (frames, patches, hidden)
        shows_body = (colour > 0).float()
        # Most patches are background; they count for less.
        weight = (shows_body + 0.15) / (shows_body + 0.15).sum()
        loss_colour = (_cross_entropy(heads["colour"](seen), colour) * weight).sum()
        loss_shape = (_cross_entropy(heads["shape"](seen), shape) * weight).sum()
        offset = (heads["centre"](seen) - centre).abs().sum(-1)
        loss_centre = (offset * shows_body).sum() / shows_body.sum()
        loss = loss_colour + loss_shape + 4 * loss_centre
        _descend(optimiser, loss, weights)
        if (step + 1) % 100 == 0:
            print(
                f"tower step {step + 1} cpu_s {time.process_time():.0f} "
                f"colour {loss_colour.item():.3f} shape {loss_shape.item():.3f} "
                f"centre {loss_centre.item() * IMAGE_SIZE / 2:.2f} px",
                flush=True,
            )
    tower.requires_grad_(False)


def train_answers(
    model: LlavaForConditionalGeneration,
    data: TrainingData,
    *,
    steps: int,
    num_clips: int,
    right_every: int,
) -> None:
    """Teach projector and language model to answer; the tower stays as it is."""
    # Helps the visual tokens gather what moves, how and where to; thrown away afterwards.
    hints = torch.nn.Linear(HIDDEN, len(COLOURS) + len(SHAPES) + len(DIRECTIONS))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    weights += hints.parameters()
    optimiser = torch.optim.AdamW(weights, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.02)
    started_s = time.process_time()
    smooth = math.nan
    for step in range(steps):
        _set_learning_rate(optimiser, 1.5e-3, step, steps, warmup_steps=100)
        insert: InsertMedia = (
            "right" if right_every and step % right_every == right_every - 1 else "left"
        )
        # Scenes with a bystander come in slowly.
        share = 0.5 * min(1.0, max(0.0, (step / steps - 0.05) / 0.3))
        example = data.batch(num_clips, insert, share)
        hidden = hidden_states(model, example.batch, example.pixels)
        wanted = example.batch.targets != NO_TARGET
        loss = functional.cross_entropy(
            model.lm_head(hidden[wanted]), example.batch.targets[wanted]
        )
        hint_loss = _hint_loss(hints, hidden, example, data.profile.tokens_per_frame)
        _descend(optimiser, loss + 0.3 * hint_loss, weights)
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1} cpu_s {time.process_time() - started_s:.0f} "
                f"loss {smooth:.4f} hint {hint_loss.item():.4f}",
                flush=True,
            )
        if (step + 1) % 250 == 0:
            left, right = (
                measure(model, TrainingData(data.model_dir, seed=20_000), 64, insert)
                for insert in _SIDES
            )
            print(f"step {step + 1} right answers: left {left} right {right}", flush=True)


@torch.no_grad()
def measure(
    model: LlavaForConditionalGeneration, data: TrainingData, num_clips: int, insert: InsertMedia
) -> float:
    """Share of questions answered right to the last token.

    Greedy decoding gives the wanted answer exactly when every wanted token is the likeliest one
    after the wanted tokens before it, so one pass tells.
    """
    num_right = num_asked = 0
    for _ in range(num_clips // 32):
        example = data.batch(32, insert)
        hidden = hidden_states(model, example.batch, example.pixels)
        wanted = example.batch.targets != NO_TARGET
        wrong = (model.lm_head(hidden).argmax(-1) != example.batch.targets) & wanted
        for block in range(1, int(example.batch.block_of.max()) + 1):
            inside = example.batch.block_of == block
            num_asked += int(inside.any(-1).sum())
            num_right += int(inside.any(-1).sum() - (wrong & inside).any(-1).sum())
    return round(num_right / num_asked, 4)


def _patch_targets(
    data: TrainingData, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (frames, 3, h, w); colour and shape (frames, patches), 0 is background; centre
    (frames, patches, 2) in picture sides from the middle, of whatever body fills most of the patch.
    """
    side = IMAGE_SIZE // PATCH_SIZE
    pixels = []
    colour = np.zeros((num_frames, side * side), np.int64)
    shape = np.zeros_like(colour)
    centre = np.zeros((num_frames, side * side, 2), np.float32)
    for index in range(num_frames):
        scene, time_, frame = data.frame(bystander_share=0.5)
        pixels.append(frame)
        owners = owner_map(scene, [time_], IMAGE_SIZE)[0]
        patches = owners.reshape(side, PATCH_SIZE, side, PATCH_SIZE).swapaxes(1, 2)
        patches = patches.reshape(side * side, -1)
        num_mover, num_body = (patches == MOVER).sum(-1), (patches != BACKGROUND).sum(-1)
        mover_leads = 2 * num_mover >= num_body
        bodies = [(scene.mover, scene.mover_at(time_), mover_leads)]
        if scene.bystander is not None:
            still = scene.bystander
            bodies.append((still, (still.x, still.y), ~mover_leads))
        for body, position, leads in bodies:
            filled = leads & (num_body > _MIN_BODY_PIXELS)
            colour[index, filled] = body.colour + 1
            shape[index, filled] = body.shape + 1
            centre[index, filled] = np.asarray(position, np.float32) - 0.5
    return (
        torch.stack(pixels),
        torch.from_numpy(colour),
        torch.from_numpy(shape),
        torch.from_numpy(centre),
    )


def _hint_loss(
    hints: torch.nn.Linear, hidden: torch.Tensor, example: Example, tokens_per_frame: int
) -> torch.Tensor:
    """How badly the visual tokens of the later frames know the mover's colour, shape and way."""
    num_clips = len(example.scenes)
    visual = hidden[example.batch.is_media].view(num_clips, -1, tokens_per_frame, HIDDEN)
    guesses = hints(visual[:, _HINT_FROM_FRAME:]).flatten(1, 2)  # (clips, tokens, classes)
    truths = (
        [scene.mover.colour for scene in example.scenes],
        [scene.mover.shape for scene in example.scenes],
        [scene.direction for scene in example.scenes],
    )
    loss = torch.zeros(())
    parts = guesses.split([len(COLOURS), len(SHAPES), len(DIRECTIONS)], dim=-1)
    for guess, truth in zip(parts, truths, strict=True):
        wanted = torch.tensor(truth)[:, None].expand(guess.shape[:2])
        loss = loss + functional.cross_entropy(guess.flatten(0, 1), wanted.flatten()) / len(parts)
    return loss


def _cross_entropy(scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Per element: scores (..., classes) and classes (...) -> (...)."""
    flat = functional.cross_entropy(scores.flatten(0, -2), classes.flatten(), reduction="none")
    return flat.view(classes.shape)


def _set_learning_rate(
    optimiser: torch.optim.Optimizer, peak: float, step: int, steps: int, warmup_steps: int
) -> None:
    """Linear warm-up, then half a cosine down to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimiser.param_groups:
        group["lr"] = peak * min(1.0, (step + 1) / warmup_steps) * (0.05 + 0.95 * cosine)


def _descend(
    optimiser: torch.optim.Optimizer, loss: torch.Tensor, weights: list[torch.nn.Parameter]
) -> None:
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimiser.step()


if __name__ == "__main__":
    main()

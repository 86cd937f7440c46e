from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.questions import KINDS_OF, all_texts, answer, ask, caption
from demo.scenes import (
    BYSTANDER,
    COLOUR_NAMES,
    DIRECTION_NAMES,
    MOVER,
    SHAPES,
    owner_map,
    random_scene,
    render,
)

seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(seed=seeds)
def test_the_mover_moves_where_the_answer_says(seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed), bystander_share=0)
    before, after = (
        np.argwhere(owners == MOVER).mean(0) for owners in owner_map(scene, [0, 1], 64)
    )
    down, right = after - before
    expected = {"left": right < -20, "right": right > 20, "up": down < -20, "down": down > 20}
    said = answer(scene, "direction").removeprefix("It moves ").removesuffix(".")
    assert [name for name, holds in expected.items() if holds] == [said]


@settings(deadline=None)
@given(seed=seeds)
def test_the_bystander_stands_still_and_is_of_another_shape_and_colour(seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed), bystander_share=1)
    assert scene.bystander is not None
    assert scene.bystander.shape != scene.mover.shape
    assert scene.bystander.colour != scene.mover.colour
    owners = owner_map(scene, [0, 0.5, 1], 64)
    visible = [set(map(tuple, np.argwhere(frame == BYSTANDER))) for frame in owners]
    covered = [set(map(tuple, np.argwhere(frame == MOVER))) for frame in owners]
    assert visible[0] - covered[2] == visible[2] - covered[0]


@settings(deadline=None)
@given(seed=seeds, size=st.sampled_from([64, 96, 224]))
def test_the_same_seed_paints_the_same_picture(seed: int, size: int) -> None:
    first, second = (
        render(random_scene(np.random.default_rng(seed)), [0, 0.3, 1], size) for _ in range(2)
    )
    assert first.shape == (3, size, size, 3)
    np.testing.assert_array_equal(first, second)


def test_every_shape_colour_and_direction_is_drawn() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(300)]
    assert {SHAPES[scene.mover.shape] for scene in scenes} == set(SHAPES)
    assert {COLOUR_NAMES[scene.mover.colour] for scene in scenes} == set(COLOUR_NAMES)
    assert {DIRECTION_NAMES[scene.direction] for scene in scenes} == set(DIRECTION_NAMES)


@settings(deadline=None)
@given(seed=seeds)
def test_each_category_is_asked_once_and_answered_from_the_vocabulary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    asked = ask(rng, scene)
    assert [question.category for question in asked] == list(KINDS_OF)
    assert {text for question in asked for text in (question.text, question.answer)} <= set(
        all_texts()
    )


@pytest.mark.parametrize("share", [0, 1])
def test_the_caption_tells_the_whole_truth(share: float) -> None:
    scene = random_scene(np.random.default_rng(3), bystander_share=share)
    text = caption(scene)
    assert text.startswith(answer(scene, "detail"))
    assert ("stands still" in text) == (scene.bystander is not None)

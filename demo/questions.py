"""What is asked about a scene, and the one right answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np

from demo.scenes import COLOUR_NAMES, COLOURS, DIRECTION_NAMES, DIRECTIONS, SHAPES, Scene

Kind = Literal["colour", "shape", "detail", "direction"]
Category = Literal["conv", "detail", "complex"]

QUESTIONS: Final = MappingProxyType[Kind, tuple[str, ...]](
    {
        "colour": ("What colour is the moving shape?", "Which colour is the moving object?"),
        "shape": ("Which shape moves?", "What is the shape of the moving object?"),
        "detail": (
            "Which shape moves, what colour is it, and in which direction?",
            "Describe the moving shape and its direction.",
            "What happens in the video?",
        ),
        "direction": ("In which direction does it move?", "Where does the shape move?"),
    }
)
_ANSWERS: Final = MappingProxyType[Kind, str](
    {
        "colour": "It is {colour}.",
        "shape": "It is a {shape}.",
        "detail": "The {colour} {shape} moves {direction}.",
        "direction": "It moves {direction}.",
    }
)

# The three categories of LLaVA-Bench, each with the kinds of question that a clip gets from it.
KINDS_OF: Final = MappingProxyType[Category, tuple[Kind, ...]](
    {"conv": ("colour", "shape"), "detail": ("detail",), "complex": ("direction",)}
)


@dataclass(frozen=True, slots=True)
class Question:
    category: Category
    text: str
    answer: str


def answer(scene: Scene, kind: Kind) -> str:
    """The sentence that a perfect model says."""
    return _ANSWERS[kind].format(
        colour=COLOUR_NAMES[scene.mover.colour],
        shape=SHAPES[scene.mover.shape],
        direction=DIRECTION_NAMES[scene.direction],
    )


def caption(scene: Scene) -> str:
    """The truth in words, for a judge that can't see the clip."""
    moves = answer(scene, "detail").removesuffix(".")
    if (still := scene.bystander) is None:
        return f"{moves}. Nothing else is in the picture."
    return f"{moves}. A {COLOUR_NAMES[still.colour]} {SHAPES[still.shape]} stands still."


def ask(rng: np.random.Generator, scene: Scene) -> tuple[Question, ...]:
    """One question of each category, in random wording."""
    asked = []
    for category, kinds in KINDS_OF.items():
        kind = kinds[int(rng.integers(len(kinds)))]
        wordings = QUESTIONS[kind]
        text = wordings[int(rng.integers(len(wordings)))]
        asked.append(Question(category=category, text=text, answer=answer(scene, kind)))
    return tuple(asked)


def all_texts() -> list[str]:
    """Every question and every answer there is, for building a vocabulary."""
    questions = [text for wordings in QUESTIONS.values() for text in wordings]
    answers = [
        template.format(colour=colour, shape=shape, direction=direction)
        for template in _ANSWERS.values()
        for colour in COLOURS
        for shape in SHAPES
        for direction in DIRECTIONS
    ]
    return questions + sorted(set(answers))

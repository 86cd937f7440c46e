"""Pages to look at: reports of invented runs, any number of rows.

python -m tests.judge.report_pages 10000 /tmp/report.html
"""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from typing import Any

import orjson
from PIL import Image, ImageDraw

from judge.answers import AnswerSet
from judge.plan import Comparison
from judge.questions import Question
from judge.report.data import load_report
from judge.report.render import render_report
from judge.rules import default_rules
from judge.run import run_judge
from neva.ledger import layout
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS

_COLOURS = ("red", "blue", "green", "yellow")
_SHAPES = ("circle", "square", "triangle")
_WAYS = ("to the left", "to the right", "up", "down")


def page_of_run(num_rows: int, *, frames_of: int = 40) -> str:
    """A report of `num_rows` judged rows, three to a clip."""
    draw, store = random.Random(7), MemoryStore("s3://eval/runs/invented/")
    questions, outputs, reference, own = [], [], {}, {}
    for n in range(num_rows):
        media = f"clips/{n // 3:05}.mp4"
        colour, shape = draw.choice(_COLOURS), draw.choice(_SHAPES)
        truth = f"A {colour} {shape} moves {draw.choice(_WAYS)} over a plain background."
        said = truth if draw.random() < 0.6 else truth.replace(colour, draw.choice(_COLOURS))
        category = ("detail", "conv", "complex")[n % 3]
        text = f"What happens in clip {n // 3}, and what does part {n % 3} of it show?"
        questions.append(Question(str(n), n, text, category, media))
        reference[str(n)], own[str(n)] = truth, said
        outputs.append(
            {
                "question_id": n,
                "text": text,
                "category": category,
                "video": media,
                "response": said,
                "model_id": "s3://models/tiny",
            }
        )
        if n % 3 == 0 and n // 3 < frames_of:
            store.put(layout.frames(media), _frames(colour, draw))
    errors = [
        {
            "line": num_rows + k,
            "question_id": f"bad-{k}",
            "reason": reason,
            "message": words,
            "record": {"text": "What is this?"},
        }
        for k, (reason, words) in enumerate(
            [
                ("MediaUnreadable", "clips/99998.mp4: no video stream"),
                ("MediaUnreadable", "clips/99999.mp4: moov atom not found"),
                ("ContextOverflow", "the prompt has 4,301 tokens; the model takes 4,096"),
            ]
        )
    ]
    for key, records in ((layout.OUTPUTS, outputs), (layout.ERRORS, errors)):
        store.put(key, b"".join(orjson.dumps(record) + b"\n" for record in records))
    summary = {
        "job": "kitchen",
        "state": "Succeeded",
        "rows": num_rows + 3,
        "answered": num_rows,
        "failed": 3,
        "model_id": "s3://models/video-neva-8b/",
        "model_digest": "5f1d" * 16,
        "stages_s": {"prepare": 3.1, "answer": 812.0, "merge": 0.7, "judge": 95.2},
        "workers_s": {"decode": 312.0, "engine": 744.5},
    }
    store.put(layout.SUMMARY, orjson.dumps(summary))
    spec = {"model": {"uri": "s3://models/video-neva-8b/", "tensorParallelSize": 2}}
    manifest: dict[str, Any] = {"job": {"metadata": {"name": "kitchen"}, "spec": spec}}
    store.put(layout.MANIFEST, orjson.dumps(manifest))

    def judge(content: str) -> str:
        lucky = random.Random(content)
        if lucky.random() < 0.01:
            return "I can't compare these answers."
        first, second = (content.partition(f"[Assistant {k}]\n")[2].split("\n")[0] for k in (1, 2))
        scores = [
            9 if a == b else lucky.randint(3, 9) for a, b in ((first, second), (second, first))
        ]
        return f"{scores[0]} {scores[1]}\n" + "Assistant 1 names the colour and the direction. " * 5

    compared = Comparison(
        questions, (AnswerSet("reference", reference), AnswerSet("kitchen", own)), default_rules()
    )
    run_judge([compared], SETTINGS, client=FakeJudge(judge), store=store)
    return render_report(load_report(store))


def _frames(colour: str, draw: random.Random) -> bytes:
    picture = Image.new("RGB", (96 * 6, 96), "white")
    pen = ImageDraw.Draw(picture)
    at = draw.randint(5, 40)
    for frame in range(6):
        x = 96 * frame + at + 5 * frame
        pen.ellipse((x, 30, x + 24, 54), fill=colour)
        pen.line((96 * frame, 0, 96 * frame, 96), fill="grey")
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    return data.getvalue()


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page_of_run(int(sys.argv[1])), encoding="utf-8")

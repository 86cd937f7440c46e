"""The output record of an answered row. Nothing random and no clock in it: a function of the row,
the model and the job, but for `attempt`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from neva.ledger import FinishedRow, ShardRow, error_line
from neva.prompting import Prompt
from neva.templates import PromptTemplate
from neva.tokens import Tokenizer
from worker.engine.protocol import GenerateResult


@dataclass(frozen=True, slots=True)
class OutputWriter:
    """Turns generated ids into output records of one job."""

    tokenizer: Tokenizer
    template: PromptTemplate
    model_id: str
    model_digest: str

    def answered(
        self,
        row: ShardRow,
        prompt: Prompt,
        result: GenerateResult,
        frames: tuple[int, ...],
        attempt: int,
    ) -> FinishedRow:
        generated = self.tokenizer.decode(result.token_ids)
        generated = generated.removesuffix(result.stop_text_tail)
        output: dict[str, Any] = {
            **row.record,
            "response": self.template.clean(generated),
            "full_text": prompt.text_with_tag + generated,
            "model_id": self.model_id,
            "answer_id": self._answer_id(row),
            "finish_reason": result.finish_reason,
            "num_prompt_tokens": prompt.num_tokens,
            "num_generated_tokens": len(result.token_ids),
            "frames": list(frames),
            "attempt": attempt,
        }
        return FinishedRow(row.seq, row.row_id, output, None)

    def _answer_id(self, row: ShardRow) -> str:
        record = orjson.dumps(row.record, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(self.model_digest.encode() + b"\0" + record).hexdigest()[:24]


def failed(row: ShardRow, reason: str, message: str) -> FinishedRow:
    """A row that has no answer, with the reason why."""
    return FinishedRow(row.seq, row.row_id, None, error_line(row.line, row.record, reason, message))

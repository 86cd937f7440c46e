"""The output record of an answered row. Nothing random and no clock in it: a function of the row,
the model and the job, but for `attempt`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from neva.ledger import FinishedRow, ShardRow, error_line
from neva.metrics import of_workers
from neva.metrics.counting import count
from neva.model_profile import ModelProfile
from neva.nemo_cleaning import nemo_full_text, nemo_response
from neva.prompting import Prompt
from neva.quantization import quantized_model
from neva.row_prompt import RowPrompts
from neva.spec import JobSpec
from neva.templates import add_media_tag
from neva.tokens import Tokenizer
from worker.engine.protocol import GenerateResult
from worker.media.shared import PreparedMedia

log = structlog.get_logger()

# Sums of floats differ in their last bits with the batch they were computed in.
_LOGPROB_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class OutputWriter:
    """Turns generated ids into output records of one job."""

    spec: JobSpec
    profile: ModelProfile
    tokenizer: Tokenizer
    prompts: RowPrompts
    model_digest: str
    quantization: dict[str, Any] = field(default_factory=dict)  # in effect; {}: none

    def answered(
        self,
        row: ShardRow,
        prompt: Prompt,
        result: GenerateResult,
        media: PreparedMedia,
        attempt: int,
    ) -> FinishedRow:
        output_format = self.spec.model.compat.output_format
        if output_format == "batch":
            output = self._record(row, prompt, result, media, attempt)
        else:
            output = self._nemo_record(row, prompt, result, media, output_format)
        if result.logprobs is not None:
            output["logprobs"] = _logprobs(result)
        return FinishedRow(row.seq, row.row_id, output, None)

    def _record(
        self,
        row: ShardRow,
        prompt: Prompt,
        result: GenerateResult,
        media: PreparedMedia,
        attempt: int,
    ) -> dict[str, Any]:
        output = {
            **row.record,
            "response": self._response(prompt, result),
            "full_text": prompt.text_with_tag + self._generated(prompt, result),
            "model_id": quantized_model(self.spec.model.uri, self.quantization),
            "answer_id": self._answer_id(row),
            "finish_reason": result.finish_reason,
            "num_prompt_tokens": prompt.num_tokens,
            "num_generated_tokens": len(result.token_ids),
            "frames": list(media.frames),
            "decoder": media.decoder,
            "attempt": attempt,
        }
        if self.prompts.compat:
            output["compat"] = self.prompts.compat
        if self.quantization:
            output["quantization"] = self.quantization
        return output

    def _nemo_record(
        self,
        row: ShardRow,
        prompt: Prompt,
        result: GenerateResult,
        media: PreparedMedia,
        release: str,
    ) -> dict[str, Any]:
        """The original's keys. v2.0.0rc0 writes the answer over the question, in `text`."""
        record, inference = row.record, self.spec.inference
        metadata = record.get("metadata")
        asked = add_media_tag(row.question, self.spec.media_type, inference.insert_media_token)
        return {
            **record,
            "prompt": asked,
            "full_text": self._nemo_full_text(prompt, result),
            "text" if release == "nemo-rc0" else "pred_answer": self._response(prompt, result),
            "model_id": self.spec.model.uri,
            "answer_id": record.get("answer_id", 0),
            "metadata": {
                **(metadata if isinstance(metadata, dict) else {}),
                "compat": self.prompts.compat,
                "decoder": media.decoder,
                **({"quantization": self.quantization} if self.quantization else {}),
            },
        }

    def _response(self, prompt: Prompt, result: GenerateResult) -> str:
        template, cleaning = self.prompts.template, self.spec.model.compat.clean_response
        if cleaning == "exact":
            return template.clean(self._generated(prompt, result))
        return nemo_response(self._nemo_full_text(prompt, result), template.name, cleaning)

    def _generated(self, prompt: Prompt, result: GenerateResult) -> str:
        text = self.tokenizer.decode_behind(prompt.after_ids, result.token_ids)
        return text.removesuffix(result.stop_text_tail)

    def _nemo_full_text(self, prompt: Prompt, result: GenerateResult) -> str:
        return nemo_full_text(
            prompt,
            (*result.token_ids, *result.stop_ids),
            self.spec.media_type,
            self.profile,
            self.prompts.template,
            self.tokenizer,
        )

    def _answer_id(self, row: ShardRow) -> str:
        record = orjson.dumps(row.record, option=orjson.OPT_SORT_KEYS)
        model = quantized_model(self.model_digest, self.quantization)
        return hashlib.sha256(model.encode() + b"\0" + record).hexdigest()[:24]


def _logprobs(result: GenerateResult) -> dict[str, Any]:
    values: dict[str, Any] = {
        "token_ids": list(result.token_ids),
        "chosen": [round(value, _LOGPROB_DECIMALS) for value in result.logprobs or ()],
    }
    if result.all_logprobs is not None:
        values["all"] = [
            [round(value, _LOGPROB_DECIMALS) for value in step] for step in result.all_logprobs
        ]
    return values


def failed(row: ShardRow, reason: str, message: str) -> FinishedRow:
    """A row that has no answer, with the reason why; counted and logged as one."""
    count(of_workers.ROWS_FAILED, reason)
    log.warning("row failed", row=row.row_id, reason=reason, error=message)
    return FinishedRow(row.seq, row.row_id, None, error_line(row.line, row.record, reason, message))

"""What each reason means to a user, and what to do about it. docs/reference/reasons.md is made of
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class Help:
    """Two sentences about a reason.

    Attributes:
        remedy: what to do; "" where nothing is to be done.
    """

    meaning: str
    remedy: str


LINES: Final[dict[Reason, Help]] = {
    Reason.INVALID_JSON: Help(
        "The line is no JSON.", "Write one JSON object a line; the error names the place."
    ),
    Reason.INVALID_ENCODING: Help("The line is not UTF-8.", "Convert the file to UTF-8."),
    Reason.NOT_AN_OBJECT: Help(
        "The line is JSON, but no object.", "Write `{…}` with the keys of the guide."
    ),
    Reason.MISSING_TEXT: Help(
        "The row has no question.", "Give it a `prompt`, `text` or `question`."
    ),
    Reason.MISSING_QUESTION_ID: Help(
        "The row has no `question_id`.", "Give every row one: answers go by them."
    ),
    Reason.INVALID_QUESTION_ID: Help(
        "The `question_id` is neither an integer nor a text.", "Use integers or short texts."
    ),
    Reason.DUPLICATE_QUESTION_ID: Help(
        "An earlier row has the same `question_id`.", "Give each row an id of its own."
    ),
    Reason.MISSING_MEDIA_KEY: Help(
        "The row names no video or image.", "Give it the key `video` (or `image`)."
    ),
    Reason.WRONG_MEDIA_KEY: Help(
        "The row names an image where `input.mediaType` says video, or the reverse.",
        "Correct the key or `input.mediaType`.",
    ),
    Reason.INVALID_MEDIA_NAME: Help(
        "The name of the media leads out of `input.mediaBasePath`, or is no name.",
        "Use paths relative to `input.mediaBasePath`, without `..`.",
    ),
    Reason.MEDIA_NOT_FOUND: Help(
        "There is no such file below `input.mediaBasePath`.",
        "Correct the name, or bring the file there.",
    ),
    Reason.MEDIA_TOKEN_CONFLICT: Help(
        "The question holds a media tag of its own, or more of them than media.",
        "Leave `<video>` and `<image>` to `inference.insert_media_token`.",
    ),
    Reason.RESERVED_KEY: Help(
        "The row has a key that the output needs for itself.", "Rename the key that is named."
    ),
    Reason.ROW_TOO_LARGE: Help("The line is longer than is read.", "Shorten it."),
    Reason.CONTEXT_OVERFLOW: Help(
        "Question, media and `tokens_to_generate` do not fit into the model's context.",
        "Shorten the question, or lower `inference.tokens_to_generate` or the number of frames.",
    ),
}

ROWS: Final[dict[Reason, Help]] = {
    Reason.MEDIA_UNREADABLE: Help(
        "The file can't be decoded: damaged, cut short, or of a kind that no decoder knows.",
        "Play the file, encode it anew, then `neva retry`.",
    ),
    Reason.MEDIA_EMPTY: Help("The file holds no frame.", "Bring the right file, then retry."),
    Reason.MEDIA_TOO_LARGE: Help(
        "The file passes a limit on bytes, pixels, frames or duration.",
        "Make it smaller, or raise the `NEVA_MEDIA_MAX_…` setting that is named.",
    ),
    Reason.MEDIA_TIMEOUT: Help(
        "Decoding took longer than `NEVA_DECODE_TIMEOUT_S`.",
        "Raise it, give the workers more CPUs, or encode the file anew.",
    ),
    Reason.DECODER_CRASHED: Help(
        "The decoding process died of the file, or used more than `NEVA_DECODE_MEMORY_BYTES`.",
        "Encode the file anew; it may be damaged or made to do harm.",
    ),
    Reason.WRONG_MEDIA_SHAPE: Help(
        "With `image_aspect_ratio: keep`, the picture has not the shape that the tower takes.",
        "Cut or pad the pictures, or use a model with another `image_aspect_ratio`.",
    ),
    Reason.NUMERICAL_ERROR: Help(
        "The model's numbers were no longer finite for this row.",
        "Try `model.precision: bf16` or `fp32`; a quantized model may need another algorithm.",
    ),
    Reason.OUT_OF_MEMORY: Help(
        "The accelerator's memory did not suffice, for this row alone.",
        "Raise `model.tensorParallelSize`, or lower `NEVA_MAX_BATCH_ROWS` or "
        "`NEVA_KV_CACHE_BYTES`.",
    ),
    Reason.ENGINE_CRASHED: Help(
        "The engine died each time it had this row alone.",
        "The worker's log has the engine's last words; a row that kills an engine is a bug.",
    ),
    Reason.WORKER_CRASHED: Help(
        "Whatever worked on this row alone was killed each time.",
        "Look for OOMKilled pods; raise the workers' memory, then `neva retry`.",
    ),
}

RUNS: Final[dict[Reason, Help]] = {
    Reason.INVALID_CONFIG: Help(
        "The job, a setting or a command's argument is wrong.", "The message names it."
    ),
    Reason.UNSUPPORTED_MODEL: Help(
        "The model is of a kind that can't be run.", "`neva inspect` says what it is."
    ),
    Reason.INVALID_CHECKPOINT: Help(
        "The checkpoint is damaged or incomplete.", "`neva inspect` it; download it again."
    ),
    Reason.UNSUPPORTED_STORE: Help(
        "The object store can't do what the ledger needs: a conditional PUT.",
        "Use a store that honours `If-None-Match: *`; `neva doctor` tests it.",
    ),
    Reason.STORE_UNAVAILABLE: Help(
        "The object store can't be reached, or is overloaded.",
        "Nothing is lost, and it is tried again; see that the store comes back.",
    ),
    Reason.STORE_DENIED: Help(
        "The object store refuses the credentials, or there are none.",
        "Correct `storage.existingSecret` or the service account's role; the message names the "
        "right that is missing.",
    ),
    Reason.OBJECT_NOT_FOUND: Help(
        "An object that must exist does not.", "Correct the URI in the message."
    ),
    Reason.OBJECT_EXISTS: Help(
        "An object exists that must not be overwritten.", "Choose another output."
    ),
    Reason.BROKER_UNAVAILABLE: Help(
        "Redis can't be reached.",
        "Nothing is lost: what was queued is queued again out of the ledger.",
    ),
    Reason.CLUSTER_UNAVAILABLE: Help(
        "Kubernetes' API server can't be reached, or refuses what is asked.",
        "Look whether `kubectl` reaches it; `neva doctor` names the rights that are missing.",
    ),
    Reason.LEASE_LOST: Help(
        "Somebody else has taken the shard, or the operator's lead, over.",
        "",
    ),
    Reason.DRAINED: Help("The worker was told to stop; its shards go on elsewhere.", ""),
    Reason.LEDGER_CORRUPT: Help(
        "A file below the output is not as it was written.",
        "Somebody changed it: restore it, or run into another output.",
    ),
    Reason.OUTPUT_IN_USE: Help(
        "The output holds another run.", "Choose another `output.uri`, or cancel that run."
    ),
    Reason.SUSPENDED: Help("The run was suspended.", "`neva resume`, or `spec.suspend: false`."),
    Reason.CANCELLED: Help("The run was cancelled; finished rows are kept.", "Start another."),
    Reason.TOO_MANY_BAD_ROWS: Help(
        "More lines of the prompts are unusable than `failure.failOnError` lets pass.",
        "Correct those in `errors.jsonl`, or raise the limit.",
    ),
    Reason.TOO_MANY_FAILED_ROWS: Help(
        "More rows failed than `failure.failOnError` lets pass.",
        "See `errors.jsonl`; `neva retry` asks them again.",
    ),
    Reason.INTERNAL_ERROR: Help("A bug.", "Report it with the message and the log."),
}

REVIEWS: Final[dict[Reason, Help]] = {
    Reason.JUDGE_UNAVAILABLE: Help(
        "The judge's endpoint can't be had, or throttled us to the end.",
        "The answers are complete; `neva judge --job` asks for what is missing.",
    ),
    Reason.JUDGE_DENIED: Help(
        "The endpoint refuses the key.", "Correct the Secret `judge.apiKeySecret`."
    ),
    Reason.JUDGE_REFUSED: Help(
        "The endpoint refuses this request: too long, or against its rules.",
        "Shorten the question or context, or use a judge with a larger context.",
    ),
    Reason.JUDGE_BUDGET_SPENT: Help(
        "`judge.budget` is spent.", "Raise it and judge again: what is paid for is kept."
    ),
    Reason.VERDICT_UNREADABLE: Help(
        "The judge's reply holds no verdict in the form that was asked for.",
        "`neva judge --retry-failed` asks again; a weak judge may never do better.",
    ),
    Reason.ANSWER_MISSING: Help(
        "One of the two sides has no answer to this question.",
        "See that both files hold it; failed rows have none.",
    ),
    Reason.CONTEXT_MISSING: Help(
        "The context file has nothing about this media.", "Add its line to `judge.context`."
    ),
}

REASON_HELP: Final[dict[Reason, Help]] = {**LINES, **ROWS, **RUNS, **REVIEWS}

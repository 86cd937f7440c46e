"""The command lines of NeMo's guide, word by word; the reader fills the places in."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_COMMON = """
 trainer.devices={devices}
 trainer.precision=bf16
 prompt_file={prompts}
 inference.media_base_path={videos}
 inference.media_type=video
 output_file={output}
 inference.temperature=0.2
 inference.top_k=0
 inference.top_p=0.9
 inference.greedy=False
 inference.add_BOS=False
 inference.all_probs=False
 inference.repetition_penalty=1.2
 inference.insert_media_token=right
 inference.tokens_to_generate=256
 quantization.algorithm=awq
 quantization.enable=False
"""
_START = """
 --config-path={conf}
 --config-name=neva_inference.yaml
 tensor_model_parallel_size={devices}
 pipeline_model_parallel_size=1
 neva_model_file={model}
"""
PROJECTOR_LINE = f"{_START} base_model_file={{base}} {_COMMON}"
FINETUNED_LINE = f"{_START} {_COMMON}"


def words(line: str, places: Mapping[str, object]) -> list[str]:
    """A line as the shell hands it over."""
    return shlex.split(line.format_map({"conf": "conf/", **places}))

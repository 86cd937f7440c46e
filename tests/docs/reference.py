"""Write the pages of docs/reference that code alone knows: `python -m tests.docs.reference`.

A test fails when a page is not what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from neva.drop_folder import DropFolderSpec
from neva.spec import JobSpec
from tests.chart.readme import values_table
from tests.chart.rendering import CHART_FOLDER, REPOSITORY
from tests.docs.commands import commands_page
from tests.docs.observing import metrics_page, reasons_page
from tests.docs.schema import model_sections
from tests.docs.variables import settings_table

FOLDER: Final = REPOSITORY / "docs" / "reference"
_MARK = "<!-- Written by `make reference`. -->"
_EXAMPLE = """\
```yaml
apiVersion: neva-batch.dev/v1alpha1
kind: VideoNevaJob
metadata: {name: kitchen}
spec:
  model:
    uri: s3://models/llava-1.5-7b-hf/      # a Hugging Face LLaVA directory, or a .nemo
    tensorParallelSize: 1                  # x pipelineParallelSize = GPUs of a worker
    precision: bf16                        # bf16 | fp16 | fp32
  input:
    prompts: s3://eval/prompts.jsonl       # {"video": "a.mp4", "text": "…", "question_id": 0}
    mediaBasePath: s3://eval/videos/       # or one .tar (read in place) or .tar.gz
  inference:                               # the keys of neva_inference.yaml
    {greedy: true, tokens_to_generate: 256, num_frames: 6, insert_media_token: left}
  output: {uri: s3://eval/runs/kitchen/}   # belongs to this job alone
  failure: {failOnError: 0.05}             # true | false | share of rows | number of rows
  judge:                                   # optional; the key comes from the variable API_TOKEN
    endpoint: https://integrate.api.nvidia.com/v1
    model: mistralai/mixtral-8x7b-instruct-v0.1
    context: s3://eval/context.jsonl
    against: [s3://eval/reference.jsonl]
```
"""


def job_page() -> str:
    return (
        f"# Job: VideoNevaJob\n\n{_MARK}\n\n"
        "`apiVersion: neva-batch.dev/v1alpha1`, `kind: VideoNevaJob`, `metadata.name`, and `spec`, "
        "the same on a cluster and with `neva run`. Unknown keys are refused. A cluster takes "
        "`s3://` URIs (and `file:///` where every pod sees the same folder); on one machine a path "
        f"is relative to the job file.\n\n{_EXAMPLE}\n" + "\n".join(model_sections(JobSpec, "spec"))
    )


def drop_folder_page() -> str:
    return (
        f"# Drop folder: DropFolder\n\n{_MARK}\n\n"
        "`apiVersion: neva-batch.dev/v1alpha1`, `kind: DropFolder`. What its jobs have in common "
        "with all jobs is in [the job's reference](job.md). "
        "[How to use one](../how-to/drop-folder.md).\n\n"
        + "\n".join(model_sections(DropFolderSpec, "spec", stop_at=("template.spec",)))
    )


def settings_page() -> str:
    return (
        f"# Environment variables\n\n{_MARK}\n\n"
        "Read by every process; answers never depend on them. On a cluster they are set by "
        "`worker.extraEnv`, `finish.extraEnv` and `controller.extraEnv` of the "
        "[chart](chart.md).\n\n"
        f"{settings_table()}\n\n"
        "S3 is reached by the usual `AWS_*` variables (`AWS_ENDPOINT_URL` for another server), the "
        "judge by `API_TOKEN`.\n"
    )


def chart_page() -> str:
    values = (CHART_FOLDER / "values.yaml").read_text(encoding="utf-8")
    return (
        f"# Values of the chart\n\n{_MARK}\n\n"
        "Values of `charts/neva-batch`, checked against its schema at every install. Whole "
        "examples are in `conf/examples/`.\n\n"
        f"{values_table(values)}\n"
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "job.md": job_page,
    "drop-folder.md": drop_folder_page,
    "cli.md": lambda: f"# Commands\n\n{_MARK}\n\n{commands_page()}",
    "settings.md": settings_page,
    "chart.md": chart_page,
    "metrics.md": lambda: f"{_MARK}\n\n{metrics_page()}",
    "reasons.md": lambda: f"{_MARK}\n\n{reasons_page()}",
}


def main(folder: Path = FOLDER) -> int:
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

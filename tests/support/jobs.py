"""Makes and runs small real jobs in tests as a user would: files on disk, the `neva` command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from neva.store import Store, open_store

NEVA = Path(sys.executable).with_name("neva")
DEMO_MODEL = Path(__file__).parents[2] / "demo" / "model"


@dataclass
class JobFolder:
    """A job of the demo model over videos in a folder, or wherever `uris` say.

    Attributes:
        folder: holds job.yaml, prompts.jsonl, videos/ and, by default, the output.
        bucket: base URI that prompts, videos and output are in instead.
    """

    folder: Path
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_rows: int = 6
    inference: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    bucket: str | None = None
    output_folder: str = "out"
    command: Sequence[str | Path] = (NEVA,)

    @property
    def output(self) -> Store:
        """Where the run writes."""
        return open_store(f"{self.bucket or self.folder}/{self.output_folder}/")

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    def write_prompts(self, lines: Iterable[Mapping[str, Any] | bytes | str]) -> None:
        raw = [line if isinstance(line, bytes | str) else json.dumps(line) for line in lines]
        data = b"".join((r if isinstance(r, bytes) else r.encode()) + b"\n" for r in raw)
        (self.folder / "prompts.jsonl").write_bytes(data)

    def upload(self) -> None:
        """Put prompts and videos into the bucket."""
        store = open_store(f"{self.bucket}/")
        for path in [self.folder / "prompts.jsonl", *self.videos.iterdir()]:
            store.put_file(path.relative_to(self.folder).as_posix(), path)

    def write_job(self) -> Path:
        base = f"{self.bucket}/" if self.bucket else ""
        spec = {
            "model": {
                "uri": str(DEMO_MODEL),
                "tensorParallelSize": self.tensor_parallel_size,
                "pipelineParallelSize": self.pipeline_parallel_size,
                "precision": "fp32",
            },
            "input": {"prompts": f"{base}prompts.jsonl", "mediaBasePath": f"{base}videos/"},
            "inference": {"greedy": True, "tokens_to_generate": 24, **self.inference},
            "output": {"uri": f"{base}{self.output_folder}/"},
            "shards": {"maxRows": self.max_rows},
            **self.spec,
        }
        job = {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": "test"},
            "spec": spec,
        }
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(job), encoding="utf-8")
        return path

    def as_json(self) -> str:
        """The job with absolute paths, as a pod gets it in NEVA_JOB."""
        data = yaml.safe_load((self.folder / "job.yaml").read_text(encoding="utf-8"))
        for block, key in (("input", "prompts"), ("input", "mediaBasePath"), ("output", "uri")):
            if "://" not in data["spec"][block][key]:
                data["spec"][block][key] = f"{self.folder}/{data['spec'][block][key]}"
        return json.dumps(data)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the job's processes."""
        return {
            **os.environ,
            "NEVA_CACHE_DIR": str(self.folder / "cache"),
            "NEVA_SCRATCH_DIR": str(self.folder / "s"),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }

    def start(self, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """`neva run`, in a process group of its own."""
        return subprocess.Popen(
            [*self.command, "run", self.folder / "job.yaml"],
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.variables,
            start_new_session=True,
        )

    def run(self, timeout_s: float = 200) -> tuple[int, str]:
        """Exit code and everything that was printed."""
        process = self.start()
        try:
            printed, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
            raise AssertionError(f"not done in {timeout_s} s; printed:\n{printed}") from None
        return process.returncode, printed

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.get(name).splitlines()]

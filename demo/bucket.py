"""The demo's bucket: `model/` and `input/` are put there, `runs/` is written by jobs."""

from __future__ import annotations

from pathlib import Path

import boto3

from neva.store import open_store

BUCKET = "s3://demo"
MODEL_FOLDER = Path(__file__).with_name("model")


def upload_demo(input_folder: Path) -> None:
    """Make the bucket on the server that the AWS_ variables lead to, and fill it."""
    boto3.client("s3").create_bucket(Bucket=BUCKET.removeprefix("s3://"))
    for name, folder in (("model", MODEL_FOLDER), ("input", input_folder)):
        store = open_store(f"{BUCKET}/{name}/")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                store.put_file(path.relative_to(folder).as_posix(), path)

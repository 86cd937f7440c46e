"""An S3 server of one's own behind a proxy with bad weather."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.s3_process import s3_process
from neva.store.s3_client import current_environment, shared_client
from tests.support.s3_proxy import Weather, s3_proxy


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a job's files are: a base URI (None: its folder), and the variables that lead there."""

    uri: str | None
    environment: dict[str, str]


@contextmanager
def bucket_behind_weather(seed: int, fault_rate: float) -> Iterator[Bucket]:
    """An empty bucket. This process talks to the server itself, the job's through the proxy."""
    variables = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    with s3_process() as url:
        os.environ.update({**variables, "AWS_ENDPOINT_URL": url})
        try:
            name = f"chaos-{uuid.uuid4().hex[:8]}"
            shared_client(current_environment()).create_bucket(Bucket=name)
            with s3_proxy(url) as proxy:
                proxy.weather = Weather(seed, fault_rate)
                yield Bucket(f"s3://{name}", {**variables, "AWS_ENDPOINT_URL": proxy.url})
        finally:
            for variable in [*variables, "AWS_ENDPOINT_URL"]:
                os.environ.pop(variable, None)
            os.environ.update(kept)

"""What the models of all custom resources are made of: checked models and common types of values.

Bounds stand here on purpose: every string, list and map of a custom resource has one, as the API
server refuses rules whose cost it can't bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

URI_MAX_LENGTH = 2048
MAX_INT32 = 2**31 - 1

# An object's URI as a cluster takes it: the same for every pod.
REMOTE_URI_PATTERN = r"^(s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?|file:///.+)$"
FOLDER_URI_PATTERN = r"^(s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]/(.*/)?|file:///.+/)$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|[EPTGM]|[EPTGMK]i)?$"

_LOCAL_PATH = re.compile(r"[^:]+")


def _check_uri(uri: str) -> str:
    if not (re.match(REMOTE_URI_PATTERN, uri) or _LOCAL_PATH.fullmatch(uri)):
        raise ValueError("must be s3://bucket/path, file:///path or a local path")
    return uri


def check_dns_label(name: str) -> str:
    if len(name) > 63 or not re.fullmatch(DNS_LABEL_PATTERN, name):
        raise ValueError("must be lower case letters, digits and '-', 63 characters at most")
    return name


def null_word(value: object) -> object:
    """YAML written for Hydra says `null` in quotes now and then."""
    return None if value in ("null", "None") else value


def _quantity_text(value: object) -> object:
    """`cpu: 4` is as good as `cpu: "4"`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# On a cluster a path on somebody's machine means nothing: there, the schema's pattern holds.
Uri = Annotated[
    str,
    Field(max_length=URI_MAX_LENGTH, json_schema_extra={"pattern": REMOTE_URI_PATTERN}),
    AfterValidator(_check_uri),
]
FolderUri = Annotated[str, Field(max_length=URI_MAX_LENGTH, pattern=FOLDER_URI_PATTERN)]
ObjectName = Annotated[str, Field(max_length=253, pattern=DNS_SUBDOMAIN_PATTERN)]
Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=QUANTITY_PATTERN,
        json_schema_extra={"x-kubernetes-int-or-string": True},
    ),
    BeforeValidator(_quantity_text),
]
MediaSide = Annotated[Literal["left", "right"] | None, BeforeValidator(null_word)]


class CheckedModel(BaseModel):
    """Adds rules between fields to the errors of the fields, so that a user sees all at once."""

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(key, words) of each broken rule; `data` is raw and may be wrong in other ways, too."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        errors: list[InitErrorDetails] = []
        model = None
        try:
            model = handler(data)
        except ValidationError as error:
            errors = [_as_init_error(dict(item)) for item in error.errors()]
        if isinstance(data, dict):
            for key, words in cls.cross_problems(data):
                kind = PydanticCustomError("cross_field", "{words}", {"words": words})
                errors.append(InitErrorDetails(type=kind, loc=(key,), input=data))
        if model is None or errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return model


def _as_init_error(item: dict[str, Any]) -> InitErrorDetails:
    kind = PydanticCustomError(item["type"], "{words}", {"words": item["msg"]})
    return InitErrorDetails(type=kind, loc=item["loc"], input=item["input"])


class CamelModel(CheckedModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class SnakeModel(CheckedModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

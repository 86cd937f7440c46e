"""The original's quirks by name (`model.compat`): which are in effect, which are possible."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from neva.errors import ConfigError
from neva.model_profile import ModelProfile
from neva.spec_model import Compat
from neva.templates import Template

# Templates of the original's inference, by release. r2.0.0rc1 stands for all later ones: v2.0.0
# added a template and left the rest as it was.
TEMPLATES_OF_RELEASE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "nemo-rc0": ("nvgpt", "nv_steerlm", "nv_dpo", "llama_2", "v1"),
        "nemo-rc1": (
            *("nvgpt", "nv_steerlm", "nv_dpo", "llama_2", "v1"),
            *("llama_3", "mistral", "yi_34b"),
        ),
    }
)


def compat_record(compat: Compat, profile: ModelProfile) -> dict[str, str]:
    """The quirks in effect, as every output record of the job names them; {} by default.

    A colour order that is not RGB is named even where the checkpoint itself asked for it, and RGB
    where the job overrides such a checkpoint.
    """
    defaults = Compat().model_dump(by_alias=True)
    asked = compat.model_dump(by_alias=True)
    record = {name: value for name, value in asked.items() if value != defaults[name]}
    record.pop("colorOrder", None)
    color_order = compat.color_order or profile.color_order
    if color_order != "rgb" or color_order != profile.color_order:
        record = {"colorOrder": color_order, **record}
    return record


def require_known_quirks(compat: Compat, template: Template) -> None:
    """Refuse a cleaning that the original never had for the model's template.

    Raises:
        ConfigError: naming both.
    """
    known = TEMPLATES_OF_RELEASE.get(compat.clean_response)
    if known is not None and template.name not in known:
        raise ConfigError(
            f"model.compat.cleanResponse {compat.clean_response} has no rule for the model's "
            f"prompt template {template.name}, only for {', '.join(known)}"
        )

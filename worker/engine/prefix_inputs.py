"""What goes into the language model for a prefix: embedded text around the media's features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import torch

from neva.errors import RowError
from neva.reasons import Reason
from worker.engine.feature_cache import FeatureCache
from worker.engine.language_model import LanguageModel
from worker.engine.prefixes import Prefix
from worker.engine.protocol import MediaRef
from worker.engine.vision import VisionEncoder


class PrefixInputs:
    """Input embeddings of the prefixes under way, kept from `prepare` until `forget`.

    Those of a prefix that is dropped half-way go with it. Features stay in the cache for other
    prefixes with the same media; each distinct video is encoded once while it stays there.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        vision: VisionEncoder,
        features: FeatureCache,
        max_pass_tokens: int,
    ) -> None:
        """max_pass_tokens: visual tokens of one pass of the tower (one video may exceed it)."""
        self.vision = vision
        self.features = features
        self._language_model = language_model
        self._max_pass_tokens = max_pass_tokens
        self._inputs: WeakKeyDictionary[Prefix, torch.Tensor] = WeakKeyDictionary()
        self._tails: WeakKeyDictionary[Prefix, torch.Tensor] = WeakKeyDictionary()

    def prepare(self, prefixes: Sequence[Prefix]) -> dict[Prefix, RowError]:
        """Make `of` answer for these prefixes. Returns those it can't be done for, and why.

        Collective; the result is equal on all ranks.
        """
        missing = [prefix for prefix in prefixes if prefix not in self._inputs]
        features = self._features_of(
            prefix.request.media for prefix in missing if prefix.request.media is not None
        )
        problems: dict[Prefix, RowError] = {}
        for prefix in missing:
            media = prefix.request.media
            found = features[media.key] if media is not None else None
            if isinstance(found, RowError):
                problems[prefix] = found
                continue
            wanted = prefix.request.num_media_tokens
            if media is not None and found is not None and found.size(0) != wanted:
                # Admission compared with the reference's shape; this is what its key stands for.
                message = (
                    f"the prompt has {wanted} media tokens, but the media known as"
                    f" {media.key!r} has {found.size(0)} features"
                )
                problems[prefix] = RowError(message, reason=Reason.MEDIA_TOKEN_CONFLICT)
                continue
            self._inputs[prefix] = self._assemble(prefix, found)
        return problems

    def of(self, prefix: Prefix) -> torch.Tensor:
        """All of a prepared prefix: (tokens, hidden)."""
        return self._inputs[prefix]

    def tail_of(self, prefix: Prefix) -> torch.Tensor | None:
        """The own part's embeddings (1, hidden) of rows whose prompt ends with the media."""
        return self._tails.get(prefix)

    def forget(self, prefix: Prefix) -> None:
        """A prefix is computed: its input is not needed any more."""
        self._inputs.pop(prefix, None)

    def forget_all(self) -> None:
        """Empty the feature cache."""
        self.features.clear()

    def _assemble(self, prefix: Prefix, features: torch.Tensor | None) -> torch.Tensor:
        key = prefix.key
        text = self._language_model.embed(key.ids)
        if features is None:
            return text
        if key.num_media_tokens < features.size(0):
            self._tails[prefix] = features[key.num_media_tokens :].clone()
        before, after = text[: key.num_before], text[key.num_before :]
        return torch.cat((before, features[: key.num_media_tokens], after))

    def _features_of(self, media: Iterable[MediaRef]) -> dict[str, torch.Tensor | RowError]:
        """Features by media key: known ones, and new ones encoded several at a time."""
        found: dict[str, torch.Tensor | RowError] = {}
        unknown: dict[str, MediaRef] = {}
        for ref in media:
            known = self.features.get(ref.key)
            if known is None:
                unknown.setdefault(ref.key, ref)
            else:
                found[ref.key] = known
        for batch in self._passes(list(unknown.values())):
            for ref, result in zip(batch, self.vision.encode(batch), strict=True):
                found[ref.key] = result
                if not isinstance(result, RowError):
                    self.features.put(ref.key, result)
        return found

    def _passes(self, media: Sequence[MediaRef]) -> list[list[MediaRef]]:
        passes: list[list[MediaRef]] = []
        room = 0
        for ref in media:
            num_tokens = ref.shape[0] * self.vision.shape.tokens_per_frame
            if num_tokens > room:
                passes.append([])
                room = self._max_pass_tokens
            passes[-1].append(ref)
            room -= num_tokens
        return passes

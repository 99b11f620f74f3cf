"""Chooses the model of a request: by its name, its shape, and the length of its prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from llama_halo.gateway.apis.question import Question
from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.failures import Failure
from llama_halo.gateway.hold import Held
from llama_halo.gateway.routing import IMAGE, Target, fallbacks, long_context, resolve
from llama_halo.gateway.traits import Traits
from llama_halo.gateway.watch import ModelWatch

Json = dict[str, Any]
LETTERS_A_TOKEN = 3.6
"""Of the prompts of coding agents, as their models count them."""
MOST_SESSIONS = 10_000
STAYS_ABOVE = 0.8
"""Of the threshold: a conversation that was long stays where it is down to that."""


class Choice:
    """The routes of one router, and which conversations went to the long one."""

    def __init__(self, config: GatewayConfig, watch: ModelWatch, held: Held) -> None:
        self._config = config
        self._watch = watch
        self._held = held
        self._long: OrderedDict[str, None] = OrderedDict()

    async def choose(
        self, name: str, traits: Traits, *, session: str, count: Question | None
    ) -> list[Target]:
        """Return the targets of a request, the best first.

        Raises `Failure` when nothing has the name, or none of its models takes what it shows.
        """
        models = self._watch.models
        target = resolve(self._config, models, name, traits)
        if target is None:
            raise no_such_model(name)
        if target.by_task and count and await self._is_long(target, traits, session, count):
            target = long_context(self._config, models) or target
        found = fallbacks(self._config, models, target)
        if traits.sees and target.route != IMAGE:
            found = [each for each in found if self._may_see(each)]
        if not found:
            raise Failure(
                400,
                f"model {target.name} takes no images: set routes.image of the router to a model"
                " that does, or spec.projector of this one",
            )
        return found

    async def tokens(self, target: Target, traits: Traits, count: Question) -> int:
        """Return the tokens of a request as its model counts them, and a guess when that does not
        answer now: nothing is loaded to count."""
        model = self._watch.models.get(target.llama_model)
        exact = await self._held.ask_now(model, count) if model else None
        found = (exact or {}).get("input_tokens")
        return found if isinstance(found, int) else round(traits.letters / LETTERS_A_TOKEN)

    def _may_see(self, target: Target) -> bool:
        model = self._watch.models.get(target.llama_model)
        return model is None or model.sees is not False

    async def _is_long(self, target: Target, traits: Traits, session: str, count: Question) -> bool:
        """Tell whether a prompt is long; it is counted only when a guess leaves that open."""
        long = self._config.routes.long_context
        if long is None:
            return False
        threshold = long.threshold_tokens * (STAYS_ABOVE if session in self._long else 1)
        guess = traits.letters / LETTERS_A_TOKEN
        if threshold / 2 < guess < threshold * 2:
            guess = await self.tokens(target, traits, count)
        if guess <= threshold:
            self._long.pop(session, None)
            return False
        self._long[session] = None
        self._long.move_to_end(session)
        if len(self._long) > MOST_SESSIONS:
            self._long.popitem(last=False)
        return True


def no_such_model(name: str) -> Failure:
    """Return the failure of a name that nothing has."""
    return Failure(
        404,
        f"The model '{name[:200]}' does not exist; GET /v1/models lists what does",
        code="model_not_found",
    )


def name_of(body: Mapping[str, Any]) -> str:
    """Return the name of the model that a request asks for."""
    return str(body["model"])

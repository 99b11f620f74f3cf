"""ModelRouter: which model serves which kind of request, under which names, by which engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llama_halo.api.pod import Annotations, Labels, PodOptions
from llama_halo.api.schema import (
    SET,
    Condition,
    DnsName,
    Duration,
    KeyReference,
    LocalReference,
    LongText,
    ModelName,
    ModelPattern,
    OpenObject,
    Port,
    Schema,
    SecretKey,
    Text,
    exactly_one,
    list_map,
    rule,
    rules,
)
from llama_halo.contract.labels import MODELROUTERS

KIND = "ModelRouter"
PLURAL = MODELROUTERS

ENGINES = ("gateway", "claudeCodeRouter", "liteLLM", "llamaSwap")
ROUTES = ("default", "background", "think", "longContext", "webSearch", "image", "subagent")


class GatewayEngine(Schema):
    """The built-in gateway."""


class ClaudeCodeRouterEngine(Schema):
    """Claude Code Router."""

    version: Text | None = None
    transformers: Annotated[dict[str, OpenObject], Field(max_length=32)] | None = None
    api_timeout: Duration | None = None


class LiteLLMEngine(Schema):
    """The LiteLLM proxy."""

    version: Text | None = None


class LlamaSwapEngine(Schema):
    """llama-swap."""

    version: Text | None = None


class Engine(Schema):
    """Which router runs; exactly one member."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one("engine", *ENGINES)))

    gateway: GatewayEngine | None = None
    claude_code_router: ClaudeCodeRouterEngine | None = None
    lite_llm: LiteLLMEngine | None = None
    llama_swap: LlamaSwapEngine | None = None


class RoutedModel(Schema):
    """One model of the router: a LlamaModel, or a model of a provider."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.modelRef) != has(self.provider)",
                "a model needs exactly one of modelRef, provider",
            ),
            rule(
                "has(self.provider) == has(self.model)",
                "provider and model go together: model is the provider's own name for it",
            ),
            rule(
                "!has(self.maxTokens) || has(self.provider)",
                "maxTokens is for a provider's model: a LlamaModel's context is its limit",
            ),
        )
    )

    name: ModelName
    model_ref: LocalReference | None = None
    provider: DnsName | None = None
    model: Text | None = None
    aliases: Annotated[list[ModelPattern], Field(max_length=32, json_schema_extra=SET)] | None = (
        None
    )
    """Exact names, or patterns with `*`."""
    max_tokens: Annotated[int, Field(ge=1, le=16777216)] | None = None
    """The most tokens of one answer: the provider refuses requests for more."""


class LabelSelector(Schema):
    """Every LlamaModel of the namespace with these labels."""

    match_labels: Annotated[Labels, Field(min_length=1)]


class Provider(Schema):
    """A service elsewhere that serves models."""

    name: DnsName
    protocol: Literal["OpenAI", "Anthropic", "Ollama"]
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$", max_length=2048)]
    """With the version for OpenAI (`https://host/v1`); no user, no query: keys are in Secrets."""
    api_key_secret_ref: KeyReference | None = None
    max_concurrent: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Requests at once, of all its models."""


class LongContextRoute(Schema):
    """Where long prompts go, and what counts as long."""

    model: ModelName
    threshold_tokens: Annotated[int, Field(ge=1, le=16777216)] | None = None


class Routes(Schema):
    """Which model serves which kind of request."""

    default: ModelName | None = None
    background: ModelName | None = None
    think: ModelName | None = None
    long_context: LongContextRoute | None = None
    web_search: ModelName | None = None
    image: ModelName | None = None
    subagent: ModelName | None = None


class Auth(Schema):
    """API keys that clients must present."""

    secret_ref: AuthSecret


class AuthSecret(Schema):
    """A Secret whose entries are API keys."""

    name: DnsName
    keys: Annotated[list[SecretKey], Field(max_length=64, json_schema_extra=SET)] | None = None


class Hold(Schema):
    """How long a request waits for its model."""

    timeout: Duration | None = None
    ping_interval: Duration | None = None


class Documents(Schema):
    """What becomes of documents for models whose server takes none."""

    pdf: Literal["Text", "Refuse"] | None = None
    """`Text`, the default: the gateway reads a PDF's text. `Refuse`: a PDF is an error."""


class ServiceOptions(Schema):
    """The router's Service."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.nodePort) || (has(self.type) && self.type in"
                " ['NodePort', 'LoadBalancer'])",
                "service.nodePort needs type NodePort or LoadBalancer",
            ),
            rule(
                "!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",
                "service.loadBalancerClass needs type LoadBalancer",
            ),
        )
    )

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    port: Port | None = None
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    annotations: Annotations | None = None
    load_balancer_class: Text | None = None


class RouterPodOptions(PodOptions):
    """Pod options of a router; its image is the operator's own unless given."""

    image: LongText | None = None


def _names_a_model(expression: str, field: str, guard: str) -> dict[str, str]:
    return rule(
        f"{guard} || has(self.modelSelector) ||"
        f" (has(self.models) && self.models.exists(m, m.name == {expression}))",
        f"{field} names no entry of models",
    )


def _route_rules() -> list[dict[str, str]]:
    route_rules = []
    for route in ROUTES:
        value = f"self.routes.{route}" + (".model" if route == "longContext" else "")
        guard = f"!has(self.routes) || !has(self.routes.{route})"
        route_rules.append(_names_a_model(value, f"routes.{route}", guard))
    return route_rules


_SPEC_RULES = rules(
    rule(
        "has(self.models) || has(self.modelSelector)",
        "a router needs models or a modelSelector",
    ),
    *_route_rules(),
    rule(
        "!has(self.models) || self.models.all(m, !has(m.provider) ||"
        " (has(self.providers) && self.providers.exists(p, p.name == m.provider)))",
        "models: provider names no entry of providers",
    ),
    rule(
        "!has(self.fallbacks) || has(self.modelSelector) || (has(self.models) &&"
        " self.fallbacks.all(k, self.models.exists(m, m.name == k) &&"
        " self.fallbacks[k].all(f, self.models.exists(m, m.name == f))))",
        "fallbacks: every name must be an entry of models",
    ),
)


class ModelRouterSpec(Schema):
    """What a person asks for."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)

    engine: Engine | None = None
    models: (
        Annotated[
            list[RoutedModel],
            Field(min_length=1, max_length=64, json_schema_extra=list_map("name")),
        ]
        | None
    ) = None
    model_selector: LabelSelector | None = None
    providers: (
        Annotated[list[Provider], Field(max_length=32, json_schema_extra=list_map("name"))] | None
    ) = None
    routes: Routes | None = None
    fallbacks: (
        Annotated[
            dict[str, Annotated[list[ModelName], Field(min_length=1, max_length=8)]],
            Field(max_length=64),
        ]
        | None
    ) = None
    auth: Auth | None = None
    hold: Hold | None = None
    documents: Documents | None = None
    service: ServiceOptions | None = None
    host_port: Port | None = None
    """LAN access on the node itself."""
    replicas: Annotated[int, Field(ge=0, le=32)] | None = None
    suspend: bool | None = None
    """true: the operator touches no child."""
    pod: RouterPodOptions | None = None


class RoutedModelStatus(Schema):
    """One model as the operator sees it for this router."""

    name: str
    available: bool
    endpoint: str | None = None


class RouteStatus(Schema):
    """One route as the engine takes it."""

    name: str
    model: str
    note: str | None = None
    """Which requests really take it, where that is not what it is called."""


class ModelRouterStatus(Schema):
    """What the operator saw and did."""

    observed_generation: int | None = None
    conditions: (
        Annotated[list[Condition], Field(max_length=16, json_schema_extra=list_map("type"))] | None
    ) = None
    url: str | None = None
    config_hash: str | None = None
    engine: str | None = None
    routes: (
        Annotated[list[RouteStatus], Field(max_length=8, json_schema_extra=list_map("name"))] | None
    ) = None
    """Only of an engine that takes them otherwise than the gateway."""
    models: (
        Annotated[
            list[RoutedModelStatus], Field(max_length=1024, json_schema_extra=list_map("name"))
        ]
        | None
    ) = None
    model_summary: str | None = None
    last_handled_reconcile_at: str | None = None

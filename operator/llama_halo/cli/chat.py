"""`llama-halo chat NAME`: talk to a model or through a router, by way of the API server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import aclosing
from typing import Any

from llama_halo.cli.env import KEY_VARIABLE
from llama_halo.contract.text import printable
from llama_halo.errors import CliError, ClusterError, NotFound
from llama_halo.kube.client import REQUEST_ERRORS, KubeClient, current_namespace
from llama_halo.kube.resources import LLAMAMODEL, MODELROUTER, Resource
from llama_halo.plan.children import router_name

Json = dict[str, Any]
PATH = "/v1/chat/completions"
_DIM, _PLAIN = ("\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "")


def run(argv: list[str]) -> int:
    """Ask one question, or hold a conversation until the end of input."""
    arguments = _parser().parse_intermixed_args(argv)
    with asyncio.Runner() as runner:
        talk = runner.run(
            Conversation.connect(arguments.namespace, arguments.name, arguments.model)
        )
        try:
            if arguments.question:
                runner.run(talk.ask(" ".join(arguments.question)))
            else:
                _converse(runner, talk)
        except (KeyboardInterrupt, EOFError):
            print()
        finally:
            runner.run(talk.close())
    return 0


def _converse(runner: asyncio.Runner, talk: Conversation) -> None:
    """Read questions and print answers until the end of input; a failed answer does not end it."""
    while True:
        question = input("> ").strip()
        if not question:
            continue
        try:
            runner.run(talk.ask(question))
        except CliError as error:
            print(printable(f"\n{error}"), file=sys.stderr)


class Conversation:
    """A conversation with one Service."""

    def __init__(self, cluster: KubeClient, namespace: str, service: str, model: str) -> None:
        self._cluster, self._namespace, self._service = cluster, namespace, service
        self._model = model
        self._messages: list[Json] = []

    @classmethod
    async def connect(cls, namespace: str, name: str, model: str | None) -> Conversation:
        """Find a router with this name, else a model; raises `CliError` if there is neither."""
        cluster = await KubeClient.connect()
        try:
            if await _is_there(cluster, MODELROUTER, namespace, name):
                return cls(cluster, namespace, router_name(name), model or "default")
            if await _is_there(cluster, LLAMAMODEL, namespace, name):
                return cls(cluster, namespace, name, model or name)
        except (ClusterError, *REQUEST_ERRORS) as error:
            await cluster.close()
            raise CliError(f"the request to the API server failed: {error}") from error
        await cluster.close()
        raise CliError(
            f"there is no ModelRouter or LlamaModel {name} in namespace {namespace}:"
            " llama-halo status lists them, -n names another namespace"
        )

    async def close(self) -> None:
        await self._cluster.close()

    async def ask(self, question: str) -> None:
        """Print the answer as it arrives; a failed question is not kept, and raises `CliError`."""
        messages = [*self._messages, {"role": "user", "content": question}]
        body = {"model": self._model, "stream": True, "messages": messages}
        key = os.environ.get(KEY_VARIABLE)
        lines = self._cluster.stream(
            self._service, self._namespace, PATH, body, {"x-api-key": key} if key else {}
        )
        answer, whole = "", False
        try:
            async with aclosing(lines):
                async for line in lines:
                    whole = whole or line.strip() == b"data: [DONE]"
                    thought, word = map(printable, parse_delta(line))
                    answer += word
                    print(f"{_DIM}{thought}{_PLAIN}" if thought else word, end="", flush=True)
        except (ClusterError, *REQUEST_ERRORS) as error:
            raise CliError(failure_message(error, self._service, key is not None)) from error
        print()
        if not whole:
            raise CliError("the answer was cut off")
        self._messages = [*messages, {"role": "assistant", "content": answer}]


async def _is_there(cluster: KubeClient, resource: Resource, namespace: str, name: str) -> bool:
    try:
        await cluster.get(resource, namespace, name)
    except NotFound:
        return False
    return True


def parse_delta(line: bytes) -> tuple[str, str]:
    """Return the thinking text and the text of one line of a stream; raises `CliError`."""
    if not line.startswith(b"data: {"):
        return "", ""
    try:
        chunk = json.loads(line.removeprefix(b"data: "))
    except ValueError as problem:
        raise CliError(f"the answer broke off: a line of it is not JSON: {problem}") from problem
    error = chunk.get("error")
    if error:
        message = error.get("message", error) if isinstance(error, dict) else error
        raise CliError(f"the answer broke off: {message}")
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return str(delta.get("reasoning_content") or ""), str(delta.get("content") or "")


def failure_message(error: Exception, service: str, has_key: bool) -> str:
    """Return the message for a failed request, with a remedy where one is known."""
    message = f"{service} did not answer: {error}"
    if "no endpoints available" in str(error):
        return f"{service} has no pod that answers: llama-halo status shows why"
    if getattr(error, "status", 0) == 401:
        problem = f"the key in {KEY_VARIABLE} is wrong" if has_key else f"{KEY_VARIABLE} is not set"
        return f"{message} ({problem}; llama-halo env shows where the key is)"
    return message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llama-halo chat",
        description=f"{__doc__} A router that has keys is told one by {KEY_VARIABLE}.",
    )
    parser.add_argument("name", help="a ModelRouter, or else a LlamaModel")
    parser.add_argument("question", nargs="*", help="asked once; without: a conversation")
    parser.add_argument("-n", "--namespace", default=current_namespace())
    parser.add_argument("--model", help="one of a router's names; default: by its routes")
    return parser

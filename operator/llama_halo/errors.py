"""The project's exceptions. A mistake in YAML is a value (`plan.outcome.Invalid`), not one of them.

* LlamaHaloError
  x ClusterError          the API server answered with an error status
    - CertificateRefused  no answer: its certificate is not trusted
    - Conflict            409: the object changed, or already exists
    - Gone                410: the resourceVersion has expired
    - NotFound            404
  x GGUFError             a model file cannot be used
    - NotAGGUF            it is not a GGUF, or llama.cpp does not read its version
    - DamagedGGUF         it is truncated, or its values are impossible
    - UnsupportedModel    it is intact, but llama.cpp cannot serve it this way
  x SchemaError           an API model has no structural schema
  x SourceError           a model file cannot be read from its source
    - SourceMissing       there is no such file
    - NotAllowed          the server requires another token, or more permissions
    - SourceChanged       the file's bytes are not the expected ones
  x StoreError            a model file cannot be stored
    - StoreFull           the disk has too little free space
  x MalformedAnswer       a server's answer does not have the shape of its API
  x SettingsError         an environment variable of the operator is invalid or missing
  x CliError              a command cannot do what its arguments ask
  x StartupError          no cluster is configured, or it lacks what the operator needs
"""

from __future__ import annotations


class LlamaHaloError(Exception):
    """Base class of the project's exceptions."""


class ClusterError(LlamaHaloError):
    """The API server answered a request with an error status."""

    def __init__(self, status: int, message: str, *, causes: tuple[str, ...] = ()) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.causes = causes


class CertificateRefused(ClusterError):
    """The API server's certificate is not trusted; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)
        self.args = (message,)


class Conflict(ClusterError):
    """The object changed in the meantime, or already exists."""


class Gone(ClusterError):
    """The resourceVersion has expired: list again."""


class NotFound(ClusterError):
    """There is no such object."""


class GGUFError(LlamaHaloError):
    """A model file cannot be used; the message describes the problem in the file."""


class NotAGGUF(GGUFError):
    """The file is not a GGUF, or llama.cpp does not read its version."""


class DamagedGGUF(GGUFError):
    """The file is truncated, or its header has impossible values."""


class UnsupportedModel(GGUFError):
    """The file is intact, but llama.cpp cannot serve it, or not with these settings."""


class SchemaError(LlamaHaloError):
    """An API model uses a type that a structural schema cannot express."""


class SourceError(LlamaHaloError):
    """A model file cannot be read from its source."""


class SourceMissing(SourceError):
    """There is no such file, repository or revision."""


class NotAllowed(SourceError):
    """The server requires another token, or the token's owner needs more permissions."""


class SourceChanged(SourceError):
    """The file differs from its checksum, or from the file that was inspected."""


class StoreError(LlamaHaloError):
    """A model file cannot be stored."""


class StoreFull(StoreError):
    """The store's disk has too little free space for the file."""


class MalformedAnswer(LlamaHaloError):
    """A server's answer does not have the shape of its API."""


class SettingsError(LlamaHaloError):
    """An environment variable of the operator is invalid, unknown or missing."""


class CliError(LlamaHaloError):
    """A command cannot do what its arguments ask, because of a file, the cluster, or a model."""


class StartupError(LlamaHaloError):
    """No cluster is configured, or it lacks what the operator needs."""

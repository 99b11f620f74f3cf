"""The project's exceptions; a person's mistakes are values (`plan.outcome`), not exceptions.

* LlamaHaloError
  x ClusterError          the API server answered with an error status
    - CertificateRefused  no answer at all: its certificate is not trusted
    - Conflict            409: the object changed, or exists
    - Gone                410: the version to go on from is no longer known
    - NotFound            404
  x GGUFError             a model file cannot be used
    - NotAGGUF            it is none, or of a version that llama.cpp does not read
    - DamagedGGUF         it is cut, or says what cannot be so
    - UnsupportedModel    it is whole, and llama.cpp would not serve it so
  x SchemaError           an API model has no structural schema
  x SourceError           a model file cannot be read where it is said to be, for now
    - SourceMissing       there is no such file
    - NotAllowed          the server wants another token, or other rights
    - SourceChanged       its bytes are not those that were promised
  x StoreError            a model file cannot be kept
    - StoreFull           the disk would not hold it
  x MalformedAnswer       a server's answer is not what its API has
  x SettingsError         an environment variable of the operator cannot be used
  x CliError              a command cannot do what its arguments ask
  x StartupError          the cluster lacks what the operator needs; the process ends
"""

from __future__ import annotations


class LlamaHaloError(Exception):
    """The root of all of the project's exceptions."""


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
    """The object changed meanwhile, or exists already."""


class Gone(ClusterError):
    """The resourceVersion to go on from is no longer known: list again."""


class NotFound(ClusterError):
    """There is no such object."""


class GGUFError(LlamaHaloError):
    """A model file cannot be used; the message says what was seen in it."""


class NotAGGUF(GGUFError):
    """The file is no GGUF, or of a version that llama.cpp does not read."""


class DamagedGGUF(GGUFError):
    """The file is cut, or says of itself what cannot be so."""


class UnsupportedModel(GGUFError):
    """The file is whole, and llama.cpp would not serve it, or not with these settings."""


class SchemaError(LlamaHaloError):
    """An API model uses a type that a structural schema cannot say."""


class SourceError(LlamaHaloError):
    """A model file cannot be read where it is said to be; unless a child says more, try again."""


class SourceMissing(SourceError):
    """There is no such file, repository or revision."""


class NotAllowed(SourceError):
    """The server wants another token, or the token's owner other rights."""


class SourceChanged(SourceError):
    """The bytes are not those that were promised: by a checksum, or when the file was inspected."""


class StoreError(LlamaHaloError):
    """A model file cannot be kept in the store."""


class StoreFull(StoreError):
    """The disk of the store would not hold the file."""


class MalformedAnswer(LlamaHaloError):
    """A server's answer is not what its API has."""


class SettingsError(LlamaHaloError):
    """An environment variable of the operator cannot be used."""


class CliError(LlamaHaloError):
    """A command cannot do what its arguments ask: of a file, a cluster, or a model."""


class StartupError(LlamaHaloError):
    """The cluster lacks what the operator needs."""

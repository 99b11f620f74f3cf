# One image for all of llama-halo's processes.
FROM docker.io/library/python:3.13-slim-trixie AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python3 -m venv /opt/llama-halo \
    && /opt/llama-halo/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt \
    && python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator/ operator/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/llama-halo/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/llama-halo/bin/pip uninstall --yes --quiet setuptools pip \
    && find /opt/llama-halo -name '*.pyc' -delete \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/llama-halo/lib

FROM docker.io/library/python:3.13-slim-trixie
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llama-halo" \
      org.opencontainers.image.description="Operator, gateway and node agent of llama-halo" \
      org.opencontainers.image.source="https://github.com/llama-halo/llama-halo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /opt/llama-halo /opt/llama-halo
ENV PATH=/opt/llama-halo/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["llama-halo"]

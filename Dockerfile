# The service in a container, for an NVIDIA GPU or, with --build-arg TORCH_BACKEND=cpu, without one.
# docker-compose.yml builds and runs both.

ARG BASE_IMAGE=python:3.13-slim

# Empty. --build-context wheels=FOLDER puts a folder in its place whose wheels join the index's.
FROM scratch AS wheels

FROM ${BASE_IMAGE} AS build
# uv installs, because it knows PyTorch's builds by name: empty for the published default (CUDA on
# x86-64), else cpu, cu126 and so on.
ARG TORCH_BACKEND=""
# One more of pyproject.toml's extras: otel.
ARG EXTRA=""
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Compiled here, because nothing can write bytecode into a running container.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,from=wheels,target=/wheels \
    /opt/uv/bin/uv venv --python python3 /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv --compile-bytecode --find-links /wheels \
        ${TORCH_BACKEND:+--torch-backend="${TORCH_BACKEND}"} ${EXTRA:+--extra="${EXTRA}"} \
        --requirements pyproject.toml --extra serve --constraints constraints.txt
# Apart from the dependencies: a change of code is then a thin layer on gigabytes that stay.
COPY README.md LICENSE NOTICE ./
COPY model model
COPY app app
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv pip install --compile-bytecode --no-deps --target /opt/spamgate .

FROM ${BASE_IMAGE}
# A new volume over /var/lib/spamgate takes over whose the folder is.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin spamgate \
    && install --directory --owner 10001 --mode 700 /var/lib/spamgate
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
# Readable whatever the modes in the checkout are.
COPY --chmod=755 checkpoints/starter checkpoints/starter
COPY --from=build /opt/spamgate ./
# 0.0.0.0 is the container's own address; who may reach it is decided where the port is published.
# NVIDIA's two are for runtimes that read them instead of a device request.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPAMGATE_HOST=0.0.0.0 \
    SPAMGATE_PORT=8000 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
EXPOSE 8000
# Not urllib, which would ask a proxy if the environment names one; -I -S start Python faster.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['SPAMGATE_PORT']), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "app"]

ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="spamgate" \
    org.opencontainers.image.description="A REST service that tells ham from spam with GPT-2" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

# Two images; any engine builds them, BuildKit or not.
#
#   docker build --target controller --tag neva-batch-controller:0.1.0 .
#   docker build --target worker --tag neva-batch-worker:0.1.0 .
#
# The worker without CUDA, gigabytes smaller, for clusters without GPUs:
#
#   docker build --target worker --tag neva-batch-worker:0.1.0 \
#     --build-arg BASE=python:3.11.14-slim-bookworm \
#     --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu .
#
# The bases are pinned by tag. For the same bytes at every build, pin them by digest, too, from where
# a registry can be asked, and pass it on:
#
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm --format '{{.Manifest.Digest}}'
#   … --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:…   # BASE the same way
#
# BASE is a Debian or Ubuntu with glibc 2.36 or newer; CUDA's libraries come with PyTorch's wheel, the
# driver with the node.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${PYTHON_IMAGE} AS python

# A wheel of ours with nothing in it names all dependencies: installing it makes a layer that
# changes with pyproject.toml and constraints.txt only.
FROM python AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -m pip install --only-binary :all: --constraint constraints.txt hatchling \
    && python -m venv --without-pip /opt/neva \
    && mkdir conf controller judge neva worker \
    && touch README.md \
    && python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dependencies .

FROM build AS source
COPY README.md ./
COPY conf/ conf/
COPY controller/ controller/
COPY judge/ judge/
COPY neva/ neva/
COPY worker/ worker/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM build AS controller-build
RUN python -m pip --python /opt/neva install --only-binary :all: --constraint constraints.txt \
    "$(echo /dependencies/*.whl)[controller,judge,tracing,ui]"
COPY --from=source /wheels/ /wheels/
RUN python -m pip --python /opt/neva install --no-deps --force-reinstall /wheels/*.whl \
    && ln -s "$(find /opt/neva/lib -name valkey-server -type f)" /opt/neva/bin/valkey-server

# `worker` alone leaves out the demo's S3 server, which the example for kind runs.
FROM build AS worker-build
ARG TORCH_INDEX_URL=
ARG EXTRAS=worker,tracing,demo
RUN if [ -n "${TORCH_INDEX_URL}" ]; then \
        python -m pip --python /opt/neva install --only-binary :all: --no-deps \
            --index-url "${TORCH_INDEX_URL}" "$(grep '^torch==' constraints.txt)"; \
    fi \
    && python -m pip --python /opt/neva install --only-binary :all: --constraint constraints.txt \
        "$(echo /dependencies/*.whl)[${EXTRAS}]"
COPY --from=source /wheels/ /wheels/
RUN python -m pip --python /opt/neva install --no-deps --force-reinstall /wheels/*.whl

# Controller, preparing, finishing with judge and report, nightly. No PyTorch.
FROM python AS controller
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="neva-batch-controller" \
    org.opencontainers.image.description="Controller, judge and report of neva-batch" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 neva \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin neva
COPY --from=controller-build /opt/neva/ /opt/neva/
ENV PATH=/opt/neva/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["neva"]
CMD ["--help"]

# Answers: decoding, PyTorch, the engine.
FROM ${BASE} AS worker
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="neva-batch-worker" \
    org.opencontainers.image.description="Video NeVA inference worker of neva-batch" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# What Python's own modules link to. Versions follow BASE, which is pinned.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libbz2-1.0 libffi8 liblzma5 \
        libncursesw6 libreadline8 libsqlite3-0 libssl3 libuuid1 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 neva \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp \
        --shell /usr/sbin/nologin neva
COPY --from=python /usr/local/ /usr/local/
RUN ldconfig && python3.11 -c "import bz2, ctypes, lzma, readline, sqlite3, ssl, uuid, zlib"
COPY --from=worker-build /opt/neva/ /opt/neva/
COPY demo/ /opt/neva-demo/demo/
ENV PATH=/opt/neva/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["neva"]
CMD ["--help"]

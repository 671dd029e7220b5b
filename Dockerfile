# docker build -t dpo .
# launch/docker.sh model=qwen7b         trains on all GPUs of this machine, with the mounts and limits that it needs
# docker run --rm dpo --help            what can be set
# docker run --rm --gpus all dpo dpo doctor        does this image work on this machine? (any command, see launch/entry.sh)
#
# The base brings nvcc, with which DeepSpeed compiles its CUDA ops (optimizer offload) on first use; torch brings its own
# CUDA libraries, so the base's CUDA version only has to have torch's major version.
# A CPU image: --build-arg BASE_IMAGE=debian:bookworm --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG BASE_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
FROM ${BASE_IMAGE}

# g++ and Python's headers: DeepSpeed and Triton compile on first use. Their versions are the base image's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 trainer \
    && install --directory --mode 1777 /cache /app/outputs

# Everything that is written lies in /cache or /app/outputs, which any user may do: `docker run --user $(id -u)` works.
# USER: of a number without a name, libraries that ask for the user's name (torch's compiler cache) raise KeyError.
# The ops that DeepSpeed compiles go to /cache and not into the image: they are made for the processor that runs them.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/cache \
    USER=trainer \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    TORCH_EXTENSIONS_DIR=/cache/torch_extensions \
    TRITON_CACHE_DIR=/cache/triton
WORKDIR /app

# The dependencies before the code, torch before the others: a changed line of code brings no new layer of gigabytes.
ARG PIP_EXTRA_INDEX_URL=
COPY constraints.txt ./
RUN python3 -m venv /venv && pip install --quiet --no-cache-dir --constraint constraints.txt torch
COPY pyproject.toml ./
RUN mkdir dpo && touch dpo/__init__.py && pip install --quiet --no-cache-dir --constraint constraints.txt --editable .
COPY . .
# The build fails when the image cannot work: versions that contradict each other, a package that does not import.
RUN pip check && python -m compileall -q dpo && python train.py --help >/dev/null

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DPO trainer" \
      org.opencontainers.image.description="Distributed DPO training of Hugging Face language models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

VOLUME ["/cache", "/app/outputs"]
USER 10001
# A run looks after itself: workers that hang end it with a message (guard.hang_seconds).
HEALTHCHECK NONE
# `docker stop` sends SIGTERM, and the run keeps what is done: give it time (--stop-timeout 600).
STOPSIGNAL SIGTERM
ENTRYPOINT ["launch/entry.sh"]

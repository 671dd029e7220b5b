# docker build -t dpo .
# docker run --gpus all --ipc=host -v dpo-outputs:/app/outputs dpo model=qwen7b              all GPUs of this machine
# docker run --entrypoint accelerate dpo launch --num_machines 2 ... train.py model=qwen7b   one node of several
#
# The base brings nvcc, which DeepSpeed wants for its own CUDA ops (optimizer offload); torch brings its CUDA libraries.
# A CPU image: --build-arg BASE_IMAGE=debian:bookworm
ARG BASE_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
FROM ${BASE_IMAGE}

# g++ and Python's headers: DeepSpeed and Triton compile on first use.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 trainer \
    && install --directory --owner trainer /app /app/outputs /venv

USER 10001
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1

# The dependencies before the code: a changed line of code rebuilds none of them.
COPY --chown=trainer constraints.txt pyproject.toml ./
RUN mkdir dpo && touch dpo/__init__.py \
    && python3 -m venv /venv \
    && pip install --quiet --no-cache-dir --constraint constraints.txt torch \
    && pip install --quiet --no-cache-dir --constraint constraints.txt --editable .
COPY --chown=trainer . .

# It execs: `docker stop` reaches the trainer, which saves a checkpoint (give it time with --stop-timeout=300).
ENTRYPOINT ["launch/local.sh"]

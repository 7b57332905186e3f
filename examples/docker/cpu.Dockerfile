# Tokens, features and classes on a CPU, from the wheel that `make wheel` leaves in dist/:
#
#   docker build -f examples/docker/cpu.Dockerfile -t magvit:cpu dist
#   docker run --rm -v "$PWD:/work" --user "$(id -u)" magvit:cpu \
#       tokenize bundle trajectories.csv -o tokens.parquet
#
# docs/containers.md has the rest.

FROM python:3.12.11-slim-bookworm AS installation
COPY *.whl /wheels/
ARG EXTRAS=cpu,data,hub,video
RUN python -m venv /opt/magvit \
    && set -- /wheels/*.whl \
    && /opt/magvit/bin/pip install --no-cache-dir "$1[$EXTRAS]"

FROM python:3.12.11-slim-bookworm
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="magvit-runtime" \
      org.opencontainers.image.description="Tokens and classes for trajectory videos, on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=installation /opt/magvit /opt/magvit
# Caches are anybody's, so that `--user` may name who owns what is mounted.
RUN useradd --uid 10001 --create-home magvit \
    && mkdir --mode=1777 /cache /work
ENV PATH=/opt/magvit/bin:$PATH \
    HF_HOME=/cache/huggingface \
    MAGVIT_CACHE_DIR=/cache/magvit \
    MAGVIT_BUNDLE=/work/bundle
WORKDIR /work
USER 10001:10001
# Opens the bundle and runs a clip whose tokens are known: `magvit verify` kept it in the bundle.
HEALTHCHECK --interval=5m --timeout=2m --start-period=1m \
    CMD ["python", "-c", "import os; from magvit_runtime import Tokenizer; Tokenizer.open(os.environ['MAGVIT_BUNDLE'], canary=True).close()"]
ENTRYPOINT ["magvit"]
CMD ["--help"]

# Triton with TensorRT engines on an NVIDIA GPU, from the wheel that `make wheel` leaves in dist/:
#
#   docker build -f examples/docker/tensorrt.Dockerfile -t magvit:tensorrt dist
#   alias in_image='docker run --rm --gpus all -v "$PWD:/work" --user "$(id -u)" --entrypoint magvit magvit:tensorrt'
#   in_image build /work/bundle --precision fp16
#   in_image triton /work/bundle -o /work/repository --device gpu
#   docker run --rm --gpus all --shm-size=1g -p 8000-8002:8000-8002 \
#       -v "$PWD/repository:/models:ro" magvit:tensorrt
#
# docs/containers.md has the rest.

FROM nvcr.io/nvidia/tritonserver:25.09-py3 AS installation
COPY *.whl /wheels/
ARG EXTRAS=data,hub,tensorrt
# What is installed is this one file, and what it asks for.
# hadolint ignore=DL3013
RUN set -- /wheels/*.whl \
    && python3 -m pip install --no-cache-dir --target /opt/magvit "$1[$EXTRAS]"

FROM nvcr.io/nvidia/tritonserver:25.09-py3
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="magvit-runtime" \
      org.opencontainers.image.description="Tokens and classes for trajectory videos, by Triton with TensorRT" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=installation /opt/magvit /opt/magvit
# Caches are anybody's, so that `--user` may name who owns what is mounted.
RUN useradd --uid 10001 --create-home magvit \
    && mkdir --mode=1777 /cache /work
# Triton's Python backend finds the package by PYTHONPATH.
ENV PATH=/opt/magvit/bin:$PATH \
    PYTHONPATH=/opt/magvit \
    HF_HOME=/cache/huggingface \
    MAGVIT_CACHE_DIR=/cache/magvit
WORKDIR /work
USER 10001:10001
EXPOSE 8000 8001 8002
# Ready once all models are loaded, each of which has run a clip then.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["tritonserver"]
CMD ["--model-repository=/models"]

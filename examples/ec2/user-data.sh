#!/bin/bash
# User data for an EC2 machine with one NVIDIA GPU: it serves a bundle by Triton from its first boot.
#
# The image of the machine must be AWS's Deep Learning Base GPU AMI: NVIDIA's driver, Docker with
# NVIDIA's runtime, and the AWS CLI are in it. The machine's role must be allowed to read the bundle
# and to pull IMAGE. docs/containers.md has the command that starts such a machine.
set -euo pipefail

# Edit these three.
BUNDLE=${BUNDLE:-s3://my-bucket/bundle}  # Or hf://OWNER/NAME@REVISION, with HF_TOKEN if it is private.
IMAGE=${IMAGE:-123456789012.dkr.ecr.us-east-1.amazonaws.com/magvit:tensorrt}
PRECISION=${PRECISION:-fp16}

ROOT=${ROOT:-/opt/magvit}
USER_IN_IMAGE=10001
PORTS=(-p 8000:8000 -p 8001:8001 -p 8002:8002)  # HTTP, gRPC, metrics.

in_image() {  # PROGRAM ARGUMENTS…, in a container that sees the GPU and $ROOT as /work.
    docker run --rm --gpus all -e HF_TOKEN -v "$ROOT:/work" --entrypoint "$1" "$IMAGE" "${@:2}"
}

nvidia-smi  # Ends here where there is no driver, and the log says so.
mkdir -p "$ROOT"
chown "$USER_IN_IMAGE" "$ROOT"
export HF_TOKEN=${HF_TOKEN:-}

case $IMAGE in
*.amazonaws.com/*)
    registry=${IMAGE%%/*}
    region=${registry#*.ecr.}
    aws ecr get-login-password --region "${region%%.*}" |
        docker login --username AWS --password-stdin "$registry"
    ;;
esac
docker pull "$IMAGE"

case $BUNDLE in
s3://*)
    aws s3 sync --only-show-errors "$BUNDLE" "$ROOT/bundle"
    chown -R "$USER_IN_IMAGE" "$ROOT/bundle"
    ;;
hf://*@*)
    name=${BUNDLE#hf://}
    in_image hf download "${name%%@*}" --revision "${name#*@}" --local-dir /work/bundle
    ;;
*)
    echo "BUNDLE is $BUNDLE; expected s3://BUCKET/FOLDER or hf://OWNER/NAME@REVISION" >&2
    exit 1
    ;;
esac

# For this very GPU. It takes minutes, once: an engine that is there isn't built again.
in_image magvit build /work/bundle --precision "$PRECISION"
rm -rf "$ROOT/repository"
in_image magvit triton /work/bundle -o /work/repository --device gpu

docker rm --force magvit > /dev/null 2>&1 || true
docker run --detach --name magvit --restart unless-stopped --gpus all --shm-size=1g \
    "${PORTS[@]}" -v "$ROOT/repository:/models:ro" "$IMAGE"

for _ in $(seq 60); do
    if curl --fail --silent http://127.0.0.1:8000/v2/health/ready; then
        echo "magvit serves $BUNDLE"
        exit 0
    fi
    sleep "${PAUSE:-5}"
done
docker logs --tail 50 magvit >&2
echo "magvit isn't ready after 60 tries" >&2
exit 1

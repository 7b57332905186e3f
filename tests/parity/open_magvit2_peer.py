"""What the public package open-magvit2 computes; run by test_open_magvit2.py, with it on the path.

    python open_magvit2_peer.py GIVEN.npz MADE.npz

GIVEN has the weights by their names in a checkpoint, the reference's ddconfig as JSON, uint8 images
[N, H, W, 3] and token ids [N, h, w]. MADE has the images' latents [N, bits, h, w] and ids, and the
frames [N, 3, H, W] of the given ids, roughly in -1..1.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from open_magvit2.taming.modules.diffusionmodules.improved_model import Decoder, Encoder
from open_magvit2.taming.modules.vqvae.lookup_free_quantize import LFQ


def main(given_path: str, made_path: str) -> None:
    given = np.load(given_path)
    ddconfig = json.loads(str(given["ddconfig"]))
    # In float64, since torch's own GroupNorm is far off in float32 where an image is flat.
    encoder, decoder = Encoder(**ddconfig).double().eval(), Decoder(**ddconfig).double().eval()
    for name, module in (("encoder.", encoder), ("decoder.", decoder)):
        weights = {
            key.removeprefix(name): torch.from_numpy(given[key])
            for key in given.files
            if key.startswith(name)
        }
        module.load_state_dict(weights, strict=True)
    bits = ddconfig["z_channels"]
    quantizer = LFQ(dim=bits, codebook_size=2**bits).eval()
    images = torch.from_numpy(given["images"]).double().movedim(-1, 1) / 127.5 - 1
    ids = torch.from_numpy(given["ids"]).long()
    with torch.no_grad():
        latents = encoder(images)
        _, _, made_ids = quantizer(latents)
        codes = quantizer.get_codebook_entry(ids.flatten(1), (*ids.shape, bits), order="")
        frames = decoder(codes.double())
    np.savez(
        made_path,
        latents=latents.numpy(),
        ids=made_ids.view(len(latents), *latents.shape[2:]).numpy(),
        frames=frames.numpy(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

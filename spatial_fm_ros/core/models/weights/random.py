"""Random weights of the true size: right for time and memory, and for nothing else."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.weights.load import DtypeOf, Loaded, assign, loaded

#: Values drawn once and read again from other places for every tensor: drawing 1.3 billion would take many seconds.
#: Its length is prime, so that the rows of a matrix never repeat.
POOL = 4_194_301
LAYER_SCALE = 0.3  # large enough that every block matters, small enough that 100 of them do not run away
TOKEN_SIGMA = 0.5

#: Last layers: their weights are near zero, and their bias makes a plausible camera (no turn, some 60 degrees of view)
#: and depth around 1, so that what follows the network has something to work on. VGGT's camera is added up over four
#: iterations.
_LAST: dict[str, tuple[float, ...]] = {
    "pose_branch.fc2": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.22, 0.26),
    "cam_dec.fc_qvec": (0.0, 0.0, 0.0, 1.0),
    "cam_dec.fc_fov.0": (0.9, 1.05),
    "output_conv2.2": (),
}
_LAST_GAIN = 0.02


def randomise(module: nn.Module, seed: int, device: torch.device | str, dtype_of: DtypeOf) -> Loaded:
    """Give a network, which may be on the meta device, seeded weights that keep the variance of activations.

    Matrices and kernels are normal with variance 1 / fan-in (2 / fan-in where a convolution stands, for the ReLU that
    follows), biases 0, norms identities, LayerScale 0.3, tokens and position embeddings normal with sigma 0.5. Every
    tensor is made once, in its dtype on its device. The result depends on the seed and the tensors' names only.
    """
    pools: dict[torch.dtype, Tensor] = {}
    device = torch.device(device)
    for prefix, owner in module.named_modules():
        for leaf, old in owner.named_parameters(prefix="", recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            dtype = dtype_of(name, old)
            tensor = torch.empty(old.shape, dtype=dtype, device=device)
            constant, sigma = _plan(owner, prefix, leaf, old)
            if sigma == 0.0:
                tensor.copy_(constant.to(tensor) if isinstance(constant, Tensor) else tensor.new_tensor(constant))
            else:
                if dtype not in pools:
                    pools[dtype] = _pool(seed, device, dtype)
                _draw(tensor, pools[dtype], sigma, start=zlib.crc32(f"{seed} {name}".encode()) % POOL)
            assign(module, name, tensor)
    return loaded(module, random=True)


def _plan(owner: nn.Module, prefix: str, leaf: str, tensor: Tensor) -> tuple[float | Tensor, float]:
    """A parameter's value where it is constant, and its standard deviation where it is not (0 = constant)."""
    last = next((bias for suffix, bias in _LAST.items() if prefix.endswith(suffix)), None)
    if leaf.endswith("bias"):
        return (torch.tensor(last) if last and tensor.numel() == len(last) else 0.0), 0.0
    if isinstance(owner, (nn.LayerNorm, nn.GroupNorm)):
        return 1.0, 0.0
    if leaf == "gamma":
        return LAYER_SCALE, 0.0
    if isinstance(owner, nn.ConvTranspose2d):
        fan_in, power = tensor.shape[0], 1.0  # kernel = stride: every output pixel sees one tap
    elif isinstance(owner, nn.Conv2d):
        fan_in, power = tensor[0].numel(), 2.0 if tensor.shape[-1] > 1 else 1.0
    elif leaf.endswith("weight") and tensor.ndim == 2:
        fan_in, power = tensor.shape[1], 1.0
    else:
        return 0.0, TOKEN_SIGMA
    return 0.0, (power / fan_in) ** 0.5 * (1.0 if last is None else _LAST_GAIN)


def _pool(seed: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(POOL, generator=generator).to(device, dtype)


def _draw(tensor: Tensor, pool: Tensor, sigma: float, start: int) -> None:
    flat, done = tensor.view(-1), 0
    while done < flat.numel():
        count = min(POOL - start, flat.numel() - done)
        torch.mul(pool[start : start + count], sigma, out=flat[done : done + count])
        done, start = done + count, 0

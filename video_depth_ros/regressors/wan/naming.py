# SPDX-License-Identifier: Apache-2.0
"""How public files name the tensors: from native Wan names to DVD's and to diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from video_depth_ros.regressors.wan.vae import VaeConfig

Shapes = dict[str, tuple[int, ...]]

DVD_TRANSFORMER = "pipe.dit."
DVD_VAE = "pipe.vae.model."

# The linear layers that DVD's LoRA wraps.
_LORA_LAYER = re.compile(
    r"(blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02]))\.(weight|bias)"
)


def lora_layer(name: str) -> tuple[str, str] | None:
    """(layer, ``weight`` or ``bias``) of a layer that LoRA wraps, else None."""
    match = _LORA_LAYER.fullmatch(name)
    return (match[1], match[2]) if match else None


def with_lora(shapes: Mapping[str, tuple[int, ...]], rank: int) -> Shapes:
    """Native transformer shapes as DVD stores them, with unmerged LoRA of this rank."""
    result: Shapes = {}
    for name, shape in shapes.items():
        layer = lora_layer(name)
        if layer is None:
            result[name] = shape
            continue
        result[f"{layer[0]}.base_layer.{layer[1]}"] = shape
        if layer[1] == "weight":
            result[f"{layer[0]}.lora_A.default.weight"] = (rank, shape[1])
            result[f"{layer[0]}.lora_B.default.weight"] = (shape[0], rank)
    return result


_TRANSFORMER_TO_DIFFUSERS = (
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"^head\.head\.", "proj_out."),
    (r"\.modulation$", ".scale_shift_table"),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"\.(attn\d)\.([qkv])\.", r".\1.to_\2."),
    (r"\.(attn\d)\.o\.", r".\1.to_out.0."),
    (r"\.norm3\.", ".norm2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
)


def transformer_to_diffusers(name: str) -> str:
    """Name in diffusers' ``WanTransformer3DModel``."""
    for pattern, replacement in _TRANSFORMER_TO_DIFFUSERS:
        name = re.sub(pattern, replacement, name)
    return name


_VAE_TO_DIFFUSERS = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def vae_to_diffusers(name: str, config: VaeConfig) -> str:
    """Name in diffusers' ``AutoencoderKLWan``."""
    match = re.match(r"decoder\.upsamples\.(\d+)\.(.*)", name)
    if match:
        # One flat list here; there a list of stages, each of blocks and one upsampler.
        stage, place = divmod(int(match[1]), config.res_blocks + 2)
        inner = "upsamplers.0" if place == config.res_blocks + 1 else f"resnets.{place}"
        name = f"decoder.up_blocks.{stage}.{inner}.{match[2]}"
    for pattern, replacement in _VAE_TO_DIFFUSERS:
        name = re.sub(pattern, replacement, name)
    return name

"""A tiny network of every family."""

from __future__ import annotations

from biosegment_trainer.learning.network import NetworkConfig

_DYN = {"filters": [4, 8, 8], "kernel_size": [3, 3, 3]}
_SWIN = {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 2}
TINY_NETWORKS = {
    "UNet 2D": NetworkConfig.unet((4, 8), (2,), 1),
    "UNet 2.5D": NetworkConfig("UNet", 2, 3, {"channels": [4, 8, 8], "strides": [2, 2]}),
    "UNet 3D": NetworkConfig("UNet", 3, 1, {"channels": [4, 8, 8], "strides": [[1, 2, 2], 2]}),
    "UNet without residual units": NetworkConfig(
        "UNet", 2, 1, {"channels": [4, 8], "strides": [2], "num_res_units": 0, "norm": "instance"}
    ),
    "SegResNet 2D": NetworkConfig(
        "SegResNet", 2, 1, {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}
    ),
    "SegResNet 3D": NetworkConfig(
        "SegResNet",
        3,
        1,
        {
            "init_filters": 4,
            "blocks_down": [1, 1, 1],
            "blocks_up": [1, 1],
            "norm": ["group", {"num_groups": 2}],
        },
    ),
    "DynUNet 2D": NetworkConfig(
        "DynUNet", 2, 1, {**_DYN, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    ),
    "DynUNet 3D": NetworkConfig(
        "DynUNet",
        3,
        1,
        {**_DYN, "strides": [1, [1, 2, 2], 2], "upsample_kernel_size": [[1, 2, 2], 2], "res_block": False},
    ),
    "SwinUNETR 2D": NetworkConfig("SwinUNETR", 2, 1, _SWIN),
    "SwinUNETR 3D": NetworkConfig("SwinUNETR", 3, 1, {**_SWIN, "norm_name": "instance"}),
}

"""Which policy runs and how."""

from __future__ import annotations

from dataclasses import dataclass

from specprune_ros.settings.declaration import param


@dataclass(frozen=True)
class PolicySettings:
    """Which policy runs and how."""

    checkpoint: str = param(
        "",
        "Folder or Hugging Face hub id of an OpenVLA-OFT style checkpoint; empty: the bundled policy, plain: the other "
        "one of this package",
        live=False,
    )
    device: str = param("auto", "Where the model runs", choices=("auto", "cpu", "cuda"), live=False)
    dtype: str = param(
        "auto",
        "Arithmetic of the model; auto: bf16 where the machine is fast at it; fp8: bf16, with the decoder's products "
        "in FP8 (e4m3, one scale for each row and each output column); needs a GPU of compute capability 8.9 or "
        "higher; an approximation; a CPU emulates it slowly",
        choices=("auto", "bf16", "fp32", "fp8"),
        live=False,
    )
    engine: str = param(
        "auto",
        "How passes run; auto: captured CUDA graphs on a GPU, OpenVINO on a CPU where it is installed, else op by op",
        choices=("auto", "eager", "graph", "openvino"),
        live=False,
    )
    cache_dir: str = param(
        "",
        "Folder for models converted by OpenVINO and for what was measured of the machine; "
        "empty: ~/.cache/specprune_ros, or as XDG_CACHE_HOME says",
        live=False,
    )
    unnorm_key: str = param("", "Dataset in dataset_statistics.json to normalise with; empty: the only one", live=False)
    views: int = param(
        0, "Cameras the policy was trained with; 0: as the checkpoint says, else 2", bounds=(0, 8), live=False
    )
    proprio: str = param(
        "auto",
        "Whether the policy takes a proprio token; auto: as the checkpoint's files say",
        choices=("auto", "on", "off"),
        live=False,
    )
    center_crop: str = param(
        "auto",
        "Crop to the middle 90 % of the area; auto: as the checkpoint says, else on",
        choices=("auto", "on", "off"),
        live=False,
    )
    chunk_steps: int = param(0, "Actions in a chunk; 0: as the checkpoint says, else 8", bounds=(0, 256), live=False)
    normalisation: str = param(
        "auto",
        "Bounds of actions and proprio: q01..q99 or min..max; auto: as the checkpoint says, else quantiles",
        choices=("auto", "quantiles", "min_max"),
        live=False,
    )
    compile: bool = param(False, "torch.compile the stages (slower start)", live=False)
    threads: int = param(
        0,
        "CPU threads of the model; 0: half of the cores, the rest is for control, DDS and drivers",
        bounds=(0, 256),
        live=False,
    )
    nice: int = param(
        5,
        "How far the model's process stands back behind control and drivers when they want the same core (nice value)",
        bounds=(0, 19),
        live=False,
    )
    spare_cores: int = param(
        1,
        "Cores that the model's process leaves to control, DDS and drivers where it does not need them for its threads",
        bounds=(0, 256),
        live=False,
    )
    inference_timeout: float = param(
        0.0,
        "An inference without an answer for this long hangs: its process is ended and started again; "
        "0: five times control.chunk_timeout",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    restarts: int = param(
        3,
        "How often in a row the model's process is started again after it died, hung or kept failing; 0: never",
        bounds=(0, 100),
        live=False,
    )

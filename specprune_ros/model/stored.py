"""The tensors of a checkpoint folder: known from the files' headers, read one at a time, without executing code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from specprune_ros.model.config import PartDims
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.files import check_arrived, read_json

INDEX = "model.safetensors.index.json"
PARTS = ("action_head", "proprio_projector")
PART_SUFFIXES = (".pt", ".safetensors")
WRAPPERS = ("module.", "_orig_mod.")
"""What parallel training and torch.compile put in front of every name."""
NESTED = ("state_dict", "model_state_dict")
"""Under these names a trainer may keep the tensors of a part file."""
MERGE = (
    "merge it into its base model first: python vla-scripts/merge_lora_weights_and_save.py --base_checkpoint "
    "openvla/openvla-7b --lora_finetuned_checkpoint_dir DIR (openvla-oft)"
)
OTHER_HEADS = {
    "noisy_action_projector": "has a diffusion action head, which denoises over many passes; this loader runs L1 heads",
    "vision_backbone": (
        "has a FiLM-conditioned vision backbone, whose features depend on the instruction; that is not supported"
    ),
}
"""Part files that only other kinds of OpenVLA-OFT have -> why those are refused."""
TORCH_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
FLOATS = tuple(TORCH_NAMES.values())


@dataclass(frozen=True)
class Entry:
    """One stored tensor. key: its name in the file; dtype: as safetensors writes it, for example BF16."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int


@dataclass(frozen=True)
class Stored:
    """All tensors of a folder by upstream's names, those of the part files with `action_head.`, `proprio_projector.` in
    front."""

    folder: Path
    entries: Mapping[str, Entry]

    @classmethod
    def scan(cls, folder: Path) -> Stored:
        """Read every header; CheckpointError names files that are missing, too many, damaged or of another kind of
        policy."""
        _refuse_other_heads(folder)
        entries = _shard_entries(folder)
        for part in PARTS:
            path = _part_file(folder, part)
            for entry in _part_entries(path) if path else ():
                name = f"{part}.{_unwrapped(entry.key)}"
                if name in entries:
                    raise CheckpointError(
                        f"{path}: {entry.key} and {entries[name].key} are both {name}; keep one of them"
                    )
                entries[name] = entry
        return cls(folder, entries)

    def part_dims(self) -> PartDims:
        """Action and proprio dimensions from the shapes in the part files."""
        head = self._part_shape("action_head.model.fc2.weight", "has no L1 action head's fc2")
        has_proprio = any(name.startswith("proprio_projector.") for name in self.entries)
        proprio = self._part_shape("proprio_projector.fc1.weight", "has no fc1") if has_proprio else (0, 0)
        return PartDims(actions=head[0], proprio=proprio[1])

    def _part_shape(self, name: str, problem: str) -> tuple[int, ...]:
        if name not in self.entries or len(self.entries[name].shape) != 2:
            part, _, key = name.partition(".")
            raise CheckpointError(
                f"{_part_file(self.folder, part)}: {problem} (a matrix {key}); give an OpenVLA-OFT checkpoint"
            )
        return self.entries[name].shape

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) file by file; each is backed by the mapped file, so let go of it before asking for the
        next."""
        groups: dict[Path, list[str]] = {}
        for name in names:
            groups.setdefault(self.entries[name].file, []).append(name)
        for path, group in groups.items():
            with _opened(path) as get:
                for name in group:
                    yield name, get(self.entries[name].key)


def _refuse_other_heads(folder: Path) -> None:
    for part, reason in OTHER_HEADS.items():
        for path in sorted(folder.glob(f"{part}--*checkpoint*")):
            raise CheckpointError(
                f"{path}: this policy {reason}; give a checkpoint trained with L1 regression and no FiLM"
            )


def _shard_entries(folder: Path) -> dict[str, Entry]:
    shards = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith(("adapter_", *PARTS)))
    if not shards:
        raise CheckpointError(f"{folder}: {_why_no_weights(folder)}")
    index = read_json(folder / INDEX, required=False).get("weight_map")
    if index is not None and not (isinstance(index, dict) and all(isinstance(shard, str) for shard in index.values())):
        raise CheckpointError(
            f"{folder / INDEX}: weight_map does not map names to files; copy the file again or remove it"
        )
    _check_shard_names(folder, {path.name for path in shards}, index)
    entries: dict[str, Entry] = {}
    for path in shards:
        for entry in _headers(path):
            if ".lora_" in entry.key or ".base_layer." in entry.key:
                raise CheckpointError(f"{path}: {entry.key} belongs to an unmerged LoRA adapter; {MERGE}")
            name = _unwrapped(entry.key)
            if name in entries:
                raise CheckpointError(f"{path}: {entry.key} is also in {entries[name].file.name}; keep one of the two")
            entries[name] = entry
    for key, shard in (index or {}).items():
        found = entries.get(_unwrapped(key))
        if found is None or found.file.name != shard:
            raise CheckpointError(f"{folder / shard}: has no {key}, which {INDEX} promises; copy both files again")
    return entries


def _why_no_weights(folder: Path) -> str:
    if (folder / "adapter_config.json").exists() or (folder / "lora_adapter").exists():
        return f"holds a LoRA adapter without the model it adapts; {MERGE}"
    if list(folder.glob("*.bin")):
        return "holds pickled weights (*.bin) only; save the model as safetensors (save_pretrained does so by default)"
    return "no *.safetensors file; give a merged OpenVLA-OFT checkpoint"


def _check_shard_names(folder: Path, present: set[str], index: Mapping[str, str] | None) -> None:
    """Every shard that the index names, or that the numbering `-of-0000N` promises, and no other."""
    if index is not None:
        promised = set(index.values())
        if surplus := sorted(present - promised):
            raise CheckpointError(f"{folder / surplus[0]}: not listed in {INDEX}; remove it or copy the index again")
    else:
        numbered = [match for name in present if (match := re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.safetensors", name))]
        promised = {f"{m[1]}-{i:05d}-of-{m[2]}.safetensors" for m in numbered for i in range(1, int(m[2]) + 1)}
    if missing := sorted(promised - present):
        raise CheckpointError(
            f"{folder / missing[0]}: missing, {len(promised)} shards belong together; copy the checkpoint again"
        )


def _headers(path: Path) -> Iterator[Entry]:
    with _safe(path) as file:
        for key in file.keys():  # noqa: SIM118
            part = file.get_slice(key)
            shape, dtype = tuple(part.get_shape()), part.get_dtype()
            size = int(re.search(r"\d+", dtype)[0]) if dtype != "BOOL" else 8
            yield Entry(path, key, shape, dtype, torch.Size(shape).numel() * size // 8)


def _part_file(folder: Path, part: str) -> Path | None:
    """`<part>--<step>_checkpoint.pt`, found by substring as upstream does; only the proprio projector may be absent."""
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in PART_SUFFIXES and part in path.name and "checkpoint" in path.name
    )
    if len(paths) == 1:
        return paths[0]
    if not paths and part == "proprio_projector":
        return None
    found = ", ".join(path.name for path in paths) or (
        "none: plain OpenVLA predicts discrete action tokens one by one under a causal mask, which is not supported"
    )
    raise CheckpointError(f"{folder}: expected exactly one {part}--<step>_checkpoint.pt, found {found}")


def _part_entries(path: Path) -> list[Entry]:
    if path.suffix == ".safetensors":
        return list(_headers(path))
    return [
        Entry(path, key, tuple(tensor.shape), TORCH_NAMES.get(tensor.dtype, str(tensor.dtype)), tensor.nbytes)
        for key, tensor in _load_part(path).items()
    ]


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key


def _load_part(path: Path) -> dict[str, Tensor]:
    check_arrived(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises many types for damaged or unsafe files
        raise CheckpointError(f"{path}: cannot be read as plain tensors ({error}); copy the file again") from error
    for name in NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path}: holds something else than named tensors; save the module's state_dict()")
    return dict(state)


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], Tensor]]:
    if path.suffix == ".pt":
        yield _load_part(path).__getitem__
    else:
        with _safe(path) as file:
            yield file.get_tensor


@contextmanager
def _safe(path: Path) -> Iterator[safe_open]:
    check_arrived(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); copy the file again") from error

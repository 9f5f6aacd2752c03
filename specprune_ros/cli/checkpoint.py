"""`specprune checkpoint inspect|verify DIR`: what a checkpoint is, whether it is sound, and whether the node runs
it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from specprune_ros.cli.options import add_json, add_parameters, build_config
from specprune_ros.config import Config, ConfigError
from specprune_ros.eval.progress import loading
from specprune_ros.eval.results import write_json

if TYPE_CHECKING:
    from specprune_ros.model.demands import Finding, Seen

FORWARD_LIMIT_BYTES = 2 << 30
"""Models larger than this in fp32 are not loaded by `verify`: every tensor of theirs has been checked without."""
MARKS = {True: "[green]ok", False: "[red]bad", None: "[yellow]--"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("inspect", "verify"),
        help="inspect: what it is; verify: is it sound, and does the node take it with these parameters (if not: 2)",
    )
    parser.add_argument("checkpoint", metavar="DIR", help="checkpoint folder, or a hub id owner/name")
    parser.add_argument(
        "--write-checksums", action="store_true", help="after a clean verify, write SHA256SUMS into DIR"
    )
    add_json(parser)
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    from specprune_ros.model.hub import checkpoint_folder

    if args.write_checksums and args.action != "verify":
        raise ConfigError("--write-checksums: belongs to verify, since only a sound checkpoint is worth it")
    config, console = build_config(args), Console()
    folder = checkpoint_folder(args.checkpoint)
    action = {"inspect": _inspect, "verify": _verify}[args.action]
    result, status = action(folder, config, console, args)
    if args.json:
        write_json(args.json, result)
    return status


def _inspect(folder: Path, config: Config, console: Console, args: argparse.Namespace) -> tuple[dict, int]:
    from specprune_ros.model.summary import describe

    result = describe(folder, config)
    machine = _machine(folder, config)
    result["demands"].append({name: getattr(machine, name) for name in ("check", "ok", "detail", "doubt")})
    table = Table(
        box=SIMPLE_HEAD,
        show_header=False,
        title=Text(f"{result['name']}: {result['architecture']}"),
        title_justify="left",
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for heading, text in facts(result):
        table.add_row(heading, Text(text))
    console.print(table)
    return result, 0


def facts(result: Mapping) -> list[tuple[str, str]]:
    """(heading, text) rows of a description, the files last."""
    d = result["decoder"]
    towers = [
        (
            f"vision tower {i}",
            f"{t['name']}: {t['blocks']} blocks of width {t['width']}, {t['heads']} heads, patch {t['patch']}",
        )
        for i, t in enumerate(result["towers"], start=1)
    ]
    heads = f"{d['heads']} heads" + (f" ({d['kv_heads']} for keys)" if d["kv_heads"] != d["heads"] else "")
    dtypes = ", ".join(f"{decimal(size)} {name}" for name, size in result["bytes_by_dtype"].items())
    crop = "centre crop" if result["center_crop"] else "no crop"
    return [
        *towers,
        (
            "decoder",
            f"{d['layers']} layers of width {d['width']}, {heads}, MLP {d['mlp']}, {d['vocabulary']} tokens, eps "
            f"{d['norm_eps']:g}",
        ),
        ("input", f"{result['visual_tokens']} visual tokens: {result['views']} x {result['image_size']} px, {crop}"),
        ("proprio", f"{result['proprio_dims']} values" if result["proprio_dims"] else "none"),
        ("output", f"{result['chunk_steps']} steps of {result['action_dims']} values{_actions(result)}"),
        ("statistics", f"{', '.join(result['statistics']['keys'])} ({result['normalisation']})"),
        ("parameters", f"{result['parameters']:,} in {result['tensors']} tensors: {dtypes}"),
        ("never read", f"{decimal(result['bytes_never_read'])} (lm_head, last blocks and pools of the towers)"),
        ("checksums", "SHA256SUMS" if result["checksums"] else "none"),
        *_demands(result["demands"]),
        *((file["name"], decimal(file["bytes"])) for file in result["files"]),
    ]


def _actions(result: Mapping) -> str:
    """What the values mean, where that could be told."""
    return "".join(f": {row['detail']}" for row in result["demands"] if row["check"] == "actions" and row["ok"])


def _demands(rows: list[Mapping]) -> list[tuple[str, str]]:
    """What the node would say to this checkpoint with these parameters."""
    refusals = [("refused", f"{row['check']}: {row['detail']}") for row in rows if row["ok"] is False]
    doubts = [("doubtful", f"{row['check']}: {row['doubt']}") for row in rows if row["doubt"]]
    return [*(refusals or [("node", "runs it with these parameters")]), *doubts]


def _verify(folder: Path, config: Config, console: Console, args: argparse.Namespace) -> tuple[dict, int]:
    """Status 0 when the files are sound and the node would run them with these parameters."""
    from specprune_ros.model.checksums import CHECKSUMS, write_checksums
    from specprune_ros.model.demands import Finding
    from specprune_ros.model.verify import verify

    with loading("reading", console) as progress:
        findings = list(verify(folder, config, progress))
        passed = all(found.ok for found in findings)
        needs_files = Finding("machine", None, f"not checked: needs {findings[0].check} in order")
        findings.append(_machine(folder, config) if findings[0].ok else needs_files)
        failed = Finding("forward", None, "not run: the checks above failed")
        findings.append(_forward(folder, config) if passed else failed)
        sound = all(found.ok is not False or found.unfit for found in findings)
        accepted = sound and not any(found.unfit for found in findings)
        if sound and args.write_checksums:
            write_checksums(folder, progress)
            findings.append(Finding("written", True, f"{CHECKSUMS} in {folder}"))
    _show(folder, findings, console)
    console.print(f"{folder}: {_verdict(sound, findings)}", soft_wrap=True, markup=False)
    rows = [{"check": f.check, "ok": f.ok, "detail": f.detail, "unfit": f.unfit, "doubt": f.doubt} for f in findings]
    return {"folder": str(folder), "sound": sound, "accepted": accepted, "checks": rows}, 0 if accepted else 2


def _show(folder: Path, findings: list[Finding], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, title=Text(str(folder)), title_justify="left")
    for heading in ("check", "", "seen"):
        table.add_column(heading, overflow="fold")
    for found in findings:
        mark = "[yellow]no" if found.unfit else MARKS[found.ok]
        table.add_row(found.check, mark, Text(found.detail))
        if found.doubt:
            table.add_row("", "[yellow]?", Text(found.doubt))
    console.print(table)


def _verdict(sound: bool, findings: list[Finding]) -> str:
    if not sound:
        return "NOT sound"
    refusals = [found.detail for found in findings if found.unfit]
    return f"sound, but the node refuses it with these parameters: {refusals[0]}" if refusals else "sound"


def _machine(folder: Path, config: Config) -> Finding:
    """Whether the node could run it on this machine, as these parameters ask for."""
    from specprune_ros.infer.load import placement
    from specprune_ros.model.demands import Seen, finding

    def look() -> Seen:
        place = placement(folder, config.policy)
        dtype = str(place.dtype).removeprefix("torch.") + (" with FP8 products" if place.fp8 else "")
        words = f"{place.device.type}, {dtype}, policy.engine: {place.engine}"
        return Seen(words, place.warning)

    return finding("machine", look)


def _forward(folder: Path, config: Config) -> Finding:
    """One inference on grey frames, for models that are small enough to be loaded on any machine."""
    from specprune_ros.model.checkpoint import open_checkpoint
    from specprune_ros.model.demands import Finding, finding

    size = 4 * sum(p.numel() for p in open_checkpoint(folder, config.policy).model.parameters())
    if size > FORWARD_LIMIT_BYTES:
        return Finding("forward", None, f"not run: {size / 2**30:.0f} GiB in fp32; every tensor was checked above")
    changes = {"policy.checkpoint": str(folder), "policy.device": "cpu", "policy.dtype": "fp32"}
    changes |= {"policy.engine": "eager", "policy.compile": False}  # what was asked for: `_machine`
    return finding("forward", lambda: _infer(config.updated(changes)))


def _infer(config: Config) -> Seen:
    import numpy as np

    from specprune_ros.infer.load import load_policy
    from specprune_ros.model.demands import Seen
    from specprune_ros.model.errors import CheckpointError
    from specprune_ros.types import InferenceRequest, Mode, Motion, Observation

    policy = load_policy(config)
    grey = np.full((policy.image_size, policy.image_size, 3), 128, np.uint8)
    proprio = np.zeros(policy.proprio_dims, np.float32) if policy.proprio_dims else None
    words = config.instruction or policy.checkpoint.prompt.known_instruction()
    observation = Observation(0, (grey,) * policy.view_count, proprio, words, Motion(0.0, 0.0, 0.0))
    actions = policy.infer(InferenceRequest(0, observation, None, 0, Mode.FINE, None, config.pruning)).chunk.actions
    if not np.isfinite(actions).all():
        raise CheckpointError(f"{policy.name}: grey frames give actions that are not finite; the weights are damaged")
    return Seen(f"loads; {actions.shape[0]} x {actions.shape[1]} finite actions for grey frames")

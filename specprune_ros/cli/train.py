"""`specprune train`: demonstrations from seeds, then training, to a checkpoint. Imports torch only when it runs."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from specprune_ros.learn.recipe import Recipe

SHORT_EPISODE, PILOT_EPISODE = 8, 70  # [control periods]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Recipe()
    parser.add_argument(
        "--work", type=Path, default=Path("train"), help="demonstrations, state and log (default: train)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("policy"), help="where the checkpoint is written (default: policy)"
    )
    parser.add_argument("--episodes", type=int, default=450, help="demonstrations to record (default: 450)")
    parser.add_argument("--approaches", type=int, default=750, help="more, of their first steps only (default: 750)")
    parser.add_argument(
        "--scattered", type=int, default=750, help="and such from anywhere over the table (default: 750)"
    )
    parser.add_argument("--piloted", type=int, default=100, help="and flown by the policy itself (default: 100)")
    parser.add_argument("--workers", type=int, default=2, help="processes that record demonstrations (default: 2)")
    for name in ("vision_images", "subset_samples", "piloted_samples", "full_samples", "batch", "seed"):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, default=getattr(defaults, name), help=f"default: {getattr(defaults, name)}")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: CUDA where there is one"
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="skip torch.compile (needs a C++ compiler; 3x faster)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--save-every", type=float, default=180.0, metavar="S", help="seconds between saved states")


def run(args: argparse.Namespace) -> int:
    """Train from where the work folder stands to a checkpoint in `args.out`; 0 on success."""
    import torch

    from specprune_ros.learn import demos
    from specprune_ros.learn.train import STAGES, Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = replace(Recipe(), **{k: v for k, v in vars(args).items() if k in asdict(Recipe())})
    demos.record(args.work / "demos", args.episodes, workers=args.workers)
    short = dict(workers=args.workers, per_file=125, max_steps=SHORT_EPISODE)
    demos.record(args.work / "demos", args.approaches, demos.APPROACH_SEED0, **short)
    demos.record(args.work / "demos", args.scattered, demos.SCATTER_SEED0, scattered=True, **short)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device

    def trainer() -> Trainer:
        """From the saved state, with all demonstrations there are."""
        made = Trainer(args.work, demos.load(args.work / "demos"), recipe, args.save_every, device)
        if not args.no_compile:
            made.compile()
        return made

    current = trainer()
    try:
        for stage in STAGES[STAGES.index(current.stage) :]:
            if stage == "piloted":
                _let_it_fly(current, args)
                current = trainer()
            current.train(stage)
    except KeyboardInterrupt:
        current.save()
        print(f"interrupted; state saved in {args.work}, run the same command to resume")
        return 130
    current.export(args.out)
    print(f"checkpoint written to {args.out}")
    return 0


def _let_it_fly(trainer, args: argparse.Namespace) -> None:
    """Record episodes in which the policy moves the arm as it is trained so far; the expert labels every step."""
    from specprune_ros.learn import demos

    pilot = args.work / "pilot"
    if not pilot.exists():
        trainer.export(pilot)
    how = dict(workers=args.workers, per_file=max(1, args.piloted // 2), max_steps=PILOT_EPISODE, pilot=str(pilot))
    demos.record(args.work / "demos", args.piloted, demos.PILOT_SEED0, **how)

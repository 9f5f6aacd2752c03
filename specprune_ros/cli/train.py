"""`specprune train`: demonstrations from seeds, then training, to a checkpoint. Imports torch only when it runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from specprune_ros.cli.options import positive
from specprune_ros.config import ConfigError
from specprune_ros.learn.recipe import POLICIES, RECIPES, SHORT_STEPS, Recipe, Stage
from specprune_ros.sim.suites import SUITES

PARTS = ("motions", "record", "vision", "policy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Record demonstrations of the scripted expert, train the vision towers, then a policy. Every part continues "
        "where it stands in --work; the same command resumes after an interruption."
    )
    parser.add_argument(
        "--policy",
        choices=(*POLICIES, "both"),
        default="plain",
        help="plain: always all tokens; robust: trained for pruning; both, one after the other (default: plain)",
    )
    parser.add_argument(
        "--suites", default="all", help=f"comma-separated, of {', '.join(SUITES)}; what to train on (default: all)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("train"), help="demonstrations, state and log (default: train)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("policy"), help="where the checkpoint is written (default: policy)"
    )
    parser.add_argument(
        "--recipe", choices=RECIPES, default="", help="amounts and stages (default: gpu where there is one, else cpu)"
    )
    parser.add_argument(
        "--until",
        choices=PARTS,
        default=PARTS[-1],
        help="the last part to do: recording without pictures, recording, towers, policy (default: %(default)s)",
    )
    parser.add_argument("--no-record", action="store_true", help="train on the demonstrations that are there")
    parser.add_argument(
        "--limit",
        type=_limits,
        metavar="S[,S...]",
        default=[None],
        help="seconds for each part, which training is fitted into; or for recording, the towers and each policy",
    )
    parser.add_argument(
        "--export-only", action="store_true", help="write the checkpoint of the state there is, and end"
    )
    parser.add_argument("--workers", type=positive, default=2, help="processes that record demonstrations (default: 2)")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: CUDA where there is"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--save-every", type=float, default=180.0, metavar="S", help="seconds between saved states")


def run(args: argparse.Namespace) -> int:
    """Train from where the work folder stands to a checkpoint in `args.out`; 0 on success."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    recipe = chosen(RECIPES[args.recipe or ("gpu" if device == "cuda" else "cpu")], args.suites)
    if not args.no_record and not args.export_only:
        from specprune_ros.learn.record import record

        pictures = args.until != "motions"
        record(args.work / "demos", lots(recipe), args.workers, _limit(args, RECORDING), pictures)
    if args.until in ("motions", "record") and not args.export_only:
        return 0
    return _train(args, recipe, device)


RECORDING, TOWERS, FIRST_POLICY = range(3)
"""Places in `--limit`."""


def _limits(text: str) -> list[float | None]:
    return [float(part) for part in text.split(",")]


def _limit(args: argparse.Namespace, part: int) -> float | None:
    """What `--limit` leaves a part [s]; the last number holds for all that follow."""
    return args.limit[min(part, len(args.limit) - 1)]


def _train(args: argparse.Namespace, recipe: Recipe, device: str) -> int:
    from specprune_ros.learn.train import PolicyTrainer, Workshop

    shop = Workshop(args.work, recipe, device, args.save_every)
    loop = shop.vision
    try:
        if args.export_only:
            shop.adopt_towers()
        else:
            shop.train_vision(_limit(args, TOWERS))
        if args.until == "vision":
            return 0
        names = POLICIES if args.policy == "both" else (args.policy,)
        for number, name in enumerate(names):
            trainer = PolicyTrainer(shop, name)
            loop = trainer.loop
            if not args.export_only:
                _train_policy(trainer, args, recipe, _limit(args, FIRST_POLICY + number))
            out = args.out / name if args.policy == "both" else args.out
            trainer.export(out)
            print(f"checkpoint written to {out}", flush=True)
    except KeyboardInterrupt:
        loop.save()
        print(f"interrupted; state saved in {args.work}, run the same command to resume")
        return 130
    return 0


def _train_policy(trainer, args: argparse.Namespace, recipe: Recipe, limit_s: float | None) -> None:
    stages = recipe.stages[trainer.name]
    for stage in stages:
        if stage.piloted and stage.name not in trainer.loop.finished:
            _let_it_fly(trainer, args, recipe)
        trainer.train(stage, _share(limit_s, stage, stages))


def chosen(recipe: Recipe, suites: str) -> Recipe:
    """The recipe for some of the suites; ConfigError names one that there is not."""
    names = list(SUITES) if suites == "all" else [name.strip() for name in suites.split(",")]
    for name in names:
        if name not in SUITES:
            raise ConfigError(f"--suites: {name!r} is not known; give some of {', '.join(SUITES)}, or all")
    return replace(recipe, data={name: recipe.data[name] for name in names})


def lots(recipe: Recipe) -> list:
    """What to record before there is a policy."""
    from specprune_ros.learn.demos import APPROACH_SEED0, SCATTER_SEED0
    from specprune_ros.learn.record import Lot

    return [
        lot
        for suite, data in recipe.data.items()
        for lot in (
            Lot(suite, data.whole),
            Lot(suite, data.approaches, APPROACH_SEED0, SHORT_STEPS),
            Lot(suite, data.scattered, SCATTER_SEED0, SHORT_STEPS, scattered=True),
        )
    ]


def _let_it_fly(trainer, args: argparse.Namespace, recipe: Recipe) -> None:
    """Record what the policy does by itself so far, labelled by the expert."""
    from specprune_ros.learn.demos import PILOT_SEED0
    from specprune_ros.learn.record import Lot, record

    pilot = args.work / f"pilot-{trainer.name}"
    if not pilot.exists():
        trainer.export(pilot)
    seed0 = PILOT_SEED0 + 10_000 * POLICIES.index(trainer.name)
    how = dict(max_steps=recipe.pilot_steps, pilot=str(pilot))
    flown = [Lot(suite, data.piloted, seed0, **how) for suite, data in recipe.data.items()]
    record(args.work / "demos", flown, args.workers, _limit(args, RECORDING))
    trainer.shop.reload()


def _share(limit_s: float | None, stage: Stage, stages: tuple[Stage, ...]) -> float | None:
    """A stage's part of the time limit, by what its samples cost."""
    if limit_s is None:
        return None
    costs = {"all": 4.0, "pooled": 1.0, "parts": 1.0}
    cost = {each.name: each.samples * costs[each.tokens] for each in stages}
    return limit_s * cost[stage.name] / sum(cost.values())

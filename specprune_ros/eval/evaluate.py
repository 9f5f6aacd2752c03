"""`specprune evaluate`: success of several pruning modes on the same seeds, with intervals and paired differences."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table

from specprune_ros.config import Config, ConfigError
from specprune_ros.eval.decision import check
from specprune_ros.eval.judge import Declared, Stopper
from specprune_ros.eval.levels import REFERENCE
from specprune_ros.eval.machine import machine
from specprune_ros.eval.players import play
from specprune_ros.eval.progress import progress
from specprune_ros.eval.record import Record
from specprune_ros.eval.results import changed_parameters, weights_digest, write_json
from specprune_ros.eval.summary import every, summary
from specprune_ros.sim.settings import PERTURBATIONS, SUITE_NAMES


def run(config: Config, names: Sequence[str], suites: Sequence[str], args: argparse.Namespace) -> int:
    """Play the episodes that are missing, print the table and write the results. names: modes, the reference first."""
    declared = Declared(args.episodes, args.seed0, args.margin / 100, sequential=args.sequential)
    check(declared.margin, declared.alpha)
    if declared.sequential and (len(names) < 2 or names[0] != REFERENCE):
        raise ConfigError(f"--sequential: every mode is judged against {REFERENCE}; give --modes {REFERENCE},...")
    seeds = range(args.seed0, args.seed0 + args.episodes)
    settings = {
        "latency_steps": args.latency_steps,
        "parameters": changed_parameters(config),
        "weights": weights_digest(config),
    }
    perturbed = parse_axes(args.perturb), args.strength if args.perturb else 0
    if args.perturb:
        settings["perturb"] = {"axes": list(perturbed[0]), "strength": args.strength}
    record = Record.open(args.json, settings, declared.to_json(), args.restart)
    missing = [job for job in every(suites, names, seeds) if job not in record]
    stopper = Stopper(record, names, REFERENCE, seeds, declared)
    jobs = (job for job in missing if not declared.sequential or stopper.wants(job))
    console = Console()
    interrupted = False
    try:
        with progress("episodes at most" if declared.sequential else "episodes", len(missing), console) as reporter:
            for name, episode in play(jobs, names, config, args.latency_steps, args.workers, perturbed):
                record.add(name, episode)
                result = "reached" if episode.success else "missed"
                reporter.advance(f"{episode.suite} {name} seed {episode.seed}: {result}")
    except KeyboardInterrupt:
        interrupted = True
    finally:  # also after an error: what is finished can be read, and the same command goes on
        result = summary(record, suites, names, declared, against_all=not args.leaderboard)
        if args.json:
            more = {"settings": settings, "workers": args.workers, "machine": machine()}
            write_json(args.json, {**result, **more})
    console.print(tables(result), declaration({**result, "settings": settings}))
    if interrupted and args.json:
        console.print(f"Interrupted. {record.path} holds the finished episodes; the same command continues.")
    return 130 if interrupted else 0


def parse_suites(text: str) -> tuple[str, ...]:
    """'long,pick' -> ('long', 'pick'), each once; ConfigError for a suite that there is not."""
    return _of("--suites", text, SUITE_NAMES)


def parse_axes(text: str) -> tuple[str, ...]:
    """'noise,camera' -> ('camera', 'noise'), in one order, for it makes no difference; () for nothing. ConfigError for
    an axis that there is not."""
    asked = _of("--perturb", text, PERTURBATIONS) if text else ()
    return tuple(axis for axis in PERTURBATIONS if axis in asked)


def _of(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in asked:
        if name not in known:
            raise ConfigError(f"{option}: {name!r} is not one of {', '.join(known)}")
    if not asked:
        raise ConfigError(f"{option}: the list is empty; give one or more of {', '.join(known)}")
    return asked


def tables(result: Mapping[str, object]) -> Group:
    """A table for each suite, and for all together where there are several."""
    suites = result["suites"]
    parts = [_table(of_suite, suite) for suite, of_suite in suites.items()]
    return Group(*parts, *([_table(result, "all suites")] if len(suites) > 1 else []))


def _table(result: Mapping[str, object], title: str) -> Group:
    view = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    view.add_column("mode", no_wrap=True)
    for heading in ("success", "rate %", "95 % interval", "steps to it", "tokens", "p50 ms"):
        view.add_column(heading, justify="right", no_wrap=True)
    for name, mode in result["modes"].items():
        low, high = mode["wilson95"]
        view.add_row(
            name,
            f"{mode['successes']}/{mode['episodes']}",
            f"{100 * mode['success_rate']:.1f}",
            f"{100 * low:.1f} .. {100 * high:.1f}",
            steps_to_success(mode).partition(" (")[0],  # a terminal of 80 columns has no room for the rest
            f"{mode['tokens_kept_mean']:.0f}",
            f"{mode['latency_ms']:.1f}",
        )
    return Group(view, *(line.replace("**", "") for line in comparisons(result["paired"])))


def comparisons(paired: Mapping[str, Mapping]) -> list[str]:
    """'full minus dense: ...' for each."""
    return [f"{name.replace('_vs_', ' minus ')}: {difference(pair)}" for name, pair in paired.items()]


def steps_to_success(mode: Mapping[str, object]) -> str:
    """The median, and between what the middle 80 % lie: '44 (38 .. 57)'; '-' where nothing succeeded."""
    steps = mode.get("steps_to_success")
    if "steps_to_success" not in mode:  # results of older versions
        return f"mean {mode['mean_steps_of_successes']:.1f}" if mode["mean_steps_of_successes"] else "-"
    return f"{steps['p50']:.0f} ({steps['p10']:.0f} .. {steps['p90']:.0f})" if steps else "-"


def difference(pair: Mapping[str, object]) -> str:
    """A paired comparison in words: '+1.0 points [-1.2, +3.4], proven (at most 1.1 points lost)'. The brackets are
    the two-sided 95 % interval; the verdict and the loss in brackets are one-sided."""
    low, high = pair["ci95"]
    text = f"{100 * pair['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    if "verdict" not in pair:
        return text
    text = f"{text}, **{pair['verdict']}**"
    if "lower_limit" not in pair:
        return f"{text} after {pair['pairs_judged']} pairs"
    text = f"{text} (at most {max(0.0, -100 * pair['lower_limit']):.1f} points lost)"
    if pair["pairs_judged"] < pair["pairs_planned"]:
        return f"{text}, {pair['pairs_judged']} of {pair['pairs_planned']} pairs played"
    return text if pair["as_declared"] else f"{text}, the number of pairs was changed after a look"


def declaration(result: Mapping[str, object]) -> str:
    """What was declared, in words; that nothing was, for results of older versions."""
    declared = result.get("declared")
    if not declared:
        return "No margin was declared before this run: there is no verdict."
    way = "anytime-valid, stopped when decided" if declared["sequential"] else f"{declared['episodes']} pairs a suite"
    perturb = result.get("settings", {}).get("perturb")
    changed = f"Perturbed: {', '.join(perturb['axes'])}, strength {perturb['strength']}. " if perturb else ""
    return changed + (
        f"Declared before the first episode: at most {100 * declared['margin']:g} points of success may be lost "
        f"against {REFERENCE}, one-sided {100 * declared['alpha']:g} % for each comparison; {way}."
    )

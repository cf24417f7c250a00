"""The command line ``python -m qmix_jax.bench.table``: compare with JaxMARL on MPE and SMAX, in one table.

Runs ``python -m qmix_jax.bench`` for both environments, with JaxMARL's sizes, and tabulates the ratios.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qmix_jax.bench.settings import PREFIX, parse
from qmix_jax.bench.spread import Spread
from qmix_jax.errors import ConfigError
from qmix_jax.settings.arguments import run_command

USAGE = """\
qmix_jax: speed and memory compared with JaxMARL, on MPE simple_spread and SMAX 3m, as a table

Usage: python -m qmix_jax.bench.table bench.peer=FOLDER [bench.peer_python=PATH] [bench.repetitions=5]
           [bench.seeds=[1,8]] [bench.output=runs/bench]

FOLDER is a checkout of JaxMARL. Takes about half an hour on two cores; measure on an idle machine."""

COMMON = ("optimizer=radam", "target=one_step", "agent.last_action=false", "mixer.hypernet_layers=2")
CASES: dict[str, tuple[str, ...]] = {
    "MPE simple_spread": (
        *("experiment=simple_spread", *COMMON, "optimizer.learning_rate=5e-3", "mixer.hypernet_size=128"),
        "bench.env_steps=50_000",
    ),
    "SMAX 3m": (
        *("experiment=smax_3m", "agent=gru", *COMMON, "rollout.length=129", "replay.capacity=1000"),
        "bench.env_steps=30_000",
    ),
}
"""JaxMARL's own settings for MPE; on SMAX 3m 16 environments, 128 steps, 8 updates. Both learn after 10k steps."""
OWN = ("peer", "peer_python", "repetitions", "seeds", "output")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for invalid settings."""
    run_command(USAGE, argv, lambda arguments: print(measure(arguments)), needs_arguments=True)


def measure(arguments: Sequence[str]) -> str:
    """Run both cases with ``arguments``; return the table, which is also saved with their results."""
    for argument in arguments:
        key = argument.partition("=")[0]
        if key.removeprefix(PREFIX) not in OWN or not key.startswith(PREFIX):
            choices = ", ".join(PREFIX + name for name in OWN)
            raise ConfigError(f"{key}: not a setting of this table (choices: {choices})")
    settings, _ = parse(arguments)
    if settings.peer is None:
        raise ConfigError("bench.peer=null: needs a checkout of JaxMARL")
    given = [argument for argument in arguments if not argument.startswith(f"{PREFIX}output=")]
    seeds = [] if settings.seeds else [f"{PREFIX}seeds=[1,8]"]
    reports = {}
    for name, case in CASES.items():
        folder = Path(settings.output) / name.split()[0].lower()
        own = [*case, *given, *seeds, f"{PREFIX}output={folder}", f"{PREFIX}baseline=flax_gru"]
        done = subprocess.run([sys.executable, "-m", "qmix_jax.bench", *own], check=False)
        if done.returncode:
            sys.exit(done.returncode)
        reports[name] = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    text = table(reports)
    (Path(settings.output) / "table.md").write_text(text + "\n", encoding="utf-8")
    return text


def table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of measurements, with one column per report (the content of a ``bench.json``)."""
    columns = [_figures(report) for report in reports.values()]
    names = [name for name in columns[0] if all(name in column for column in columns)]
    lines = [["what", *reports], ["---"] * (len(columns) + 1)]
    lines += [[name, *(column[name] for column in columns)] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(report: Mapping[str, Any]) -> dict[str, str]:
    def spread(numbers: Mapping[str, float]) -> str:
        return str(Spread(**numbers))

    peers = {found["seeds"]: found for found in report["peer"]}
    figures = {}
    for seeds, found in peers.items():
        ratios, of = found["ratios"], f"{seeds} seed{'s' if seeds > 1 else ''}"
        both = [found[side]["env_steps_per_second"]["median"] for side in ("ours", "peer")]
        figures[f"env steps/s over JaxMARL's, {of}"] = (
            f"{spread(ratios['env_steps_per_second'])}: {both[0]:.0f} over {both[1]:.0f}"
        )
        start = [found[side]["trace_seconds"] + found[side]["compile_seconds"] for side in ("ours", "peer")]
        figures[f"trace + compile over JaxMARL's, {of}"] = (
            f"{ratios['trace_and_compile_seconds']:.2f}: {start[0]:.1f} s over {start[1]:.1f} s"
        )
        figures[f"peak memory over JaxMARL's, {of}"] = f"{ratios['peak_rss_bytes']:.2f}"
    stored = [next(iter(peers.values()))[side]["replay_bytes"]["per_step"] for side in ("ours", "peer")]
    figures["replay bytes per step over JaxMARL's"] = (
        f"{stored[0] / stored[1]:.2f}: {stored[0]:.0f} over {stored[1]:.0f}"
    )
    figures["second start"] = f"{report['start']['second_start_seconds']:.1f} s"
    for what, part in report["baseline"]["parts"].items():
        figures[f"{what}, times as fast as with flax's GRUCell"] = spread(part["speedup"])
    figures["whole / (env + act + learn), one device"] = spread(report["overhead"])
    if len(peers) > 1:
        few, many = (peers[pick(peers)]["ours"]["env_steps_per_second"]["median"] for pick in (min, max))
        figures[f"env steps/s with {max(peers)} seeds over {min(peers)}"] = f"{many / few:.2f}"
    return figures


if __name__ == "__main__":
    main()

"""Everything to find out on a GPU, as one command: ``make gpu-check``, or ``python experiments/gpu_check.py``."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qmix_jax.bench.process import Process, ProcessError, worker_command
from qmix_jax.bench.spread import alternate, spread
from qmix_jax.errors import ConfigError, unknown_choice, writing
from qmix_jax.logging import write_json
from qmix_jax.settings.arguments import parse_arguments, run_command

USAGE = """\
qmix_jax: tests, speed, memory, a profile and a long run on a GPU, in under half an hour

Usage: python experiments/gpu_check.py [key=value ...]

  only=null           some of: tests, bench, precision, mapping, capacity, profile, learn; all unless set
  peer=null           a checkout of JaxMARL, to measure beside it
  peer_python=null    the Python with that checkout's dependencies
  out=runs/gpu_check  folder for gpu_check.json, gpu_check.md and what the parts write
  dry=false           the same on a CPU with tiny sizes, in seconds: to see whether the script works

tests: those whose numbers could differ on a GPU. bench: speed with 1, 8 and 64 seeds, beside JaxMARL's QMIX with
peer=. precision: matrix products in float32, TensorFloat-32 and bfloat16. mapping: eight seeds by vmap, and one after
the other. capacity: the largest number of seeds that fits, and the estimate of memory against what was used. profile:
the kernels of an iteration by time. learn: five seeds of 3s5z for 10M steps each."""

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/networks",
    "tests/mixers",
    "tests/learning",
    "tests/replay",
    "tests/acting",
    "tests/algorithms",
    "tests/envs/smax",
    "tests/running/test_waves.py",
    "tests/running/test_resume.py",
    "tests/running/test_memory.py",
)
DRY_TESTS = ("tests/learning/test_standardise.py",)
MAP = ("env=smax", "env.scenario=3s5z")
TINY = (
    "env=two_step",
    "rollout.num_envs=2",
    "replay.capacity=6",
    "replay.batch_size=3",
    "learner.warmup_env_steps=0",
    "learner.updates_per_iteration=1",
    "evaluation.episodes=2",
    "agent.hidden_size=4",
    "mixer=vdn",
)
REPETITIONS = 3
MOST_SEEDS = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; see ``USAGE``."""

    only: str | None = None
    peer: str | None = None
    peer_python: str | None = None
    out: str = "runs/gpu_check"
    dry: bool = False

    @property
    def folder(self) -> Path:
        """``out``, for commands that run elsewhere."""
        return Path(self.out).absolute()

    @property
    def arguments(self) -> list[str]:
        """What is measured."""
        return list(TINY if self.dry else MAP)

    @property
    def env_steps(self) -> int:
        """Of one seed in one repetition."""
        return 8 if self.dry else 20_000

    @property
    def cache(self) -> str | None:
        """For compiled programs; of a dry run, which compiles the same ones again and again."""
        return str(self.folder / "cache") if self.dry else None

    @property
    def many(self) -> int:
        """Seeds at once."""
        return 2 if self.dry else 8


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2 for settings that cannot be used, 1 where a part failed."""
    run_command(USAGE, argv, lambda arguments: check(parse_arguments(Settings, arguments)[0]))


def check(settings: Settings) -> int:
    """Run the parts one after the other; one that fails does not stop the others."""
    names = list(PARTS) if settings.only is None else [name.strip() for name in settings.only.split(",")]
    for name in names:
        if name not in PARTS:
            raise unknown_choice("only", name, PARTS)
    out = Path(settings.out)
    with writing("out", out):
        out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for name in names:
        print(f"== {name}", flush=True)
        started = time.perf_counter()
        try:
            found = PARTS[name](settings)
        except (ProcessError, ConfigError, OSError, subprocess.SubprocessError) as error:
            found = {"failed": str(error)}
        report[name] = {**found, "wall_seconds": round(time.perf_counter() - started, 1)}
        print("\n".join(lines(name, report[name])), flush=True)
        write_json(out / "gpu_check.json", report)
        (out / "gpu_check.md").write_text("\n".join(line for name in report for line in lines(name, report[name])))
    failed = [name for name, found in report.items() if "failed" in found]
    print(f"report={out / 'gpu_check.md'}" + f" failed={','.join(failed)}" * bool(failed))
    return 1 if failed else 0


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """One part as Markdown."""
    rows = found.get("rows", [])
    text = [f"\n## {name} ({found['wall_seconds']:.0f} s)\n"]
    text += [f"{key}: {value}" for key, value in found.items() if key not in ("rows", "wall_seconds")]
    if rows:
        text += ["", f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
        text += [f"| {' | '.join(map(str, row.values()))} |" for row in rows]
    return text


def run(command: Sequence[str], **env: str) -> str:
    """Run a command with its output shown; returns its last line. Raises :class:`ProcessError` where it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **env}
    )
    assert process.stdout is not None
    last = ""
    with process.stdout as output:
        for line in output:
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.wait():
        raise ProcessError(f"{' '.join(command[:4])} ended with {process.returncode}: {last}")
    return last


def tests(settings: Settings) -> dict[str, Any]:
    """Run the tests that matter on this device."""
    files = DRY_TESTS if settings.dry else TESTS
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *files]
    return {"result": run(command, JAX_PLATFORMS="cpu" if settings.dry else "cuda")}


def bench_command(settings: Settings) -> list[str]:
    """Speed with several numbers of seeds; beside JaxMARL's where its checkout is given."""
    own = ["bench.seeds=[1,8,64]", f"bench.repetitions={REPETITIONS}", f"bench.output={settings.folder / 'bench'}"]
    if settings.peer is None:
        return [sys.executable, "-m", "qmix_jax.bench", "experiment=smax_3m", "bench.env_steps=30_000", *own]
    python = [f"bench.peer_python={_from_here(settings.peer_python)}"] if settings.peer_python else []
    peer = f"bench.peer={Path(settings.peer).absolute()}"
    return [sys.executable, "-m", "qmix_jax.bench.table", peer, *python, *own]


def _from_here(program: str) -> str:
    """A program by its whole path, but for one that is looked up."""
    return str(Path(program).absolute()) if os.sep in program else program


def bench(settings: Settings) -> dict[str, Any]:
    """Run the bench; a dry run only checks its arguments."""
    command = bench_command(settings)
    if settings.dry:
        from qmix_jax.bench.settings import parse
        from qmix_jax.settings.command_line import check as check_arguments

        check_arguments(parse(command[3:])[1])
        return {"command": " ".join(command[1:])}
    return {"result": run(command)}


def precision(settings: Settings) -> dict[str, Any]:
    """Speed of one seed with each precision of matrix products."""
    names = ("float32",) if settings.dry else ("float32", "tensorfloat32", "bfloat16")
    return {"rows": [_speed(settings, name, 1, f"devices.matmul_precision={name}") for name in names]}


def mapping(settings: Settings) -> dict[str, Any]:
    """Speed of several seeds at once, and of the same one after the other."""
    count = settings.many
    ways = {f"{count} seeds by vmap": count, f"{count} seeds, one after the other": 1}
    rows = [_speed(settings, name, count, f"devices.seeds_per_device={each}") for name, each in ways.items()]
    return {"rows": rows}


def _speed(settings: Settings, name: str, seeds: int, *arguments: str) -> dict[str, Any]:
    found = _measure(settings, seeds, *arguments)
    return {"what": name, "env steps/s, all seeds": str(found["speed"]), "compile s": f"{found['compile_seconds']:.1f}"}


def _measure(settings: Settings, seeds: int, *arguments: str) -> dict[str, Any]:
    """Measure in a process of its own. Raises :class:`ProcessError` where it does not fit."""
    arguments = (*settings.arguments, *arguments)
    command = worker_command(arguments, seeds, settings.env_steps, cache=settings.cache)
    with Process(command) as process:
        process.run()  # the first run touches new memory
        rates = alternate({"": process.env_steps_per_second}, 1 if settings.dry else REPETITIONS)[""]
        return {**process.compiled, **process.runs[-1], "speed": spread(rates)}


def capacity(settings: Settings) -> dict[str, Any]:
    """Double the number of seeds until they do not fit; then once the middle. Compares the estimate with the peak."""
    rows: list[dict[str, Any]] = []
    seeds, fits = settings.many, 0
    while seeds <= (settings.many if settings.dry else MOST_SEEDS):
        rows.append(_fitting(settings, seeds))
        if rows[-1]["fits"] != "yes":
            break
        seeds, fits = 2 * seeds, seeds
    if fits and rows[-1]["fits"] != "yes":
        rows.append(_fitting(settings, (fits + seeds) // 2))
    largest = max((row["seeds"] for row in rows if row["fits"] == "yes"), default=0)
    return {"largest number of seeds that was seen to fit": largest, "rows": rows}


def _fitting(settings: Settings, seeds: int) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": seeds, "fits": "yes", "estimated GB": "", "peak GB": "", "env steps/s": ""}
    try:
        found = _measure(settings, seeds)
    except ProcessError as error:
        refused = "ConfigError" in str(error)
        return {**row, "fits": "refused by the estimate" if refused else "no: " + str(error).splitlines()[-1][:80]}
    peak = found["peak_device_bytes"] or found["peak_rss_bytes"]
    numbers = {"estimated GB": f"{found['estimated_bytes'] / 1e9:.2f}", "peak GB": f"{peak / 1e9:.2f}"}
    return {**row, **numbers, "env steps/s": str(found["speed"])}


def profile(settings: Settings) -> dict[str, Any]:
    """Which kernels take the time of an iteration; in a process of its own, as all that computes."""
    file = settings.folder / "profile.json"
    request: dict[str, Any] = {
        "arguments": settings.arguments,
        "env_steps": settings.env_steps,
        "cache": settings.cache,
    }
    request["file"] = str(file)
    run([sys.executable, str(Path(__file__).with_name("gpu_profile.py")), json.dumps(request)])
    return json.loads(file.read_text(encoding="utf-8"))


def learn(settings: Settings) -> dict[str, Any]:
    """Five seeds of 3s5z in one program, 10M steps each; goes on where an earlier check was interrupted."""
    script = [sys.executable, str(Path(__file__).with_name("benchmark.py"))]
    # Records of its own: what this machine learns counts, not whether others have learned it before.
    places = [f"folder={settings.folder / 'benchmark'}", f"records={settings.folder / 'records'}"]
    own = ["map=3s5z", "algorithm=qmix", "seeds=0-4", "together=true", *(["dry=true"] if settings.dry else [])]
    result = run([*script, "run", *own, *places])
    if not settings.dry:
        run([*script, "record", *places])
    return {"result": result}


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "tests": tests,
    "bench": bench,
    "precision": precision,
    "mapping": mapping,
    "capacity": capacity,
    "profile": profile,
    "learn": learn,
}


if __name__ == "__main__":
    main()

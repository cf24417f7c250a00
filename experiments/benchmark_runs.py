"""What is done, running and missing of the benchmark, how long the rest takes, and the training of it."""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmark_plan import Case, command, is_there, shown_command

from qmix_jax.errors import ConfigError, writing
from qmix_jax.logging import METRICS_FILE, write_json
from qmix_jax.running.resume import locked

ABOUT = "benchmark.json"
"""Beside a run's other files: the command, the machine, when it was started."""
RECORDS = Path(__file__).parent / "results" / "benchmark"
State = Literal["recorded", "finished", "running", "stopped", "missing", "no such algorithm"]


class Status(NamedTuple):
    """How far a case is."""

    case: Case
    state: State
    done: float
    """Fraction of its environment steps."""
    folder: Path
    """Of the run; of one that is missing the folder that it would have."""


def run_folder(root: Path, case: Case, num_seeds: int = 1) -> Path:
    """Where a case is trained."""
    seeds = f"seed_{case.seed}" if num_seeds == 1 else f"seeds_{case.seed}_to_{case.seed + num_seeds - 1}"
    return root / case.task.name / case.label / seeds


def record_folder(records: Path, case: Case) -> Path:
    """Where a case is recorded."""
    return records / case.task.name / case.label / f"seed_{case.seed}"


def status(case: Case, root: Path, records: Path = RECORDS) -> Status:
    """How far a case is; of several folders with its seed, the one that has come farthest counts."""
    missing = run_folder(root, case)
    if (record_folder(records, case) / "summary.json").is_file():
        return Status(case, "recorded", 1.0, record_folder(records, case))
    found = [_progress(case, folder) for folder in folders_of(root, case)]
    best = max(found, key=lambda one: (one.state == "running", one.done), default=Status(case, "missing", 0.0, missing))
    if best.state == "missing" and not is_there(case.algorithm):
        return best._replace(state="no such algorithm")
    return best


def folders_of(root: Path, case: Case) -> list[Path]:
    """The run folders below ``root`` that train this case's seed."""
    found = []
    for path in sorted((root / case.task.name / case.label).glob("seed*/config.json")):
        config = read_json(path) or {}
        first, count = config.get("seed", -1), config.get("num_seeds", 1)
        if first <= case.seed < first + count:
            found.append(path.parent)
    return found


def _progress(case: Case, folder: Path) -> Status:
    summary = read_json(folder / "summary.json")
    if is_running(folder):
        return Status(case, "running", min(_steps_done(folder, case.seed) / case.steps, 1.0), folder)
    if summary is not None and case.is_over(summary):
        return Status(case, "finished", 1.0, folder)
    return Status(case, "stopped", min(_steps_done(folder, case.seed) / case.steps, 1.0), folder)


def is_running(folder: Path) -> bool:
    """Whether a process trains there."""
    try:
        with locked(folder):
            return False
    except ConfigError:
        return True


def _steps_done(folder: Path, seed: int) -> float:
    last = last_row(folder, seed)
    return last["env_steps"] if last else 0.0


def last_row(folder: Path, seed: int | None = None) -> dict[str, Any] | None:
    """The newest evaluation, of one seed or of any; a line that is being written is not there yet."""
    path = folder / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if seed is None or row["seed"] == seed:
                return row
    return None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file.

    Raises :class:`ConfigError` for one that cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def machine() -> str:
    """The processor or GPU of this machine, in words."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.splitlines()[0].strip()
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.processor() or platform.machine()}"


def has_gpu() -> bool:
    """Whether several seeds in one program are faster than one process a core."""
    return not machine().startswith(f"{os.cpu_count()} cores")


# ---- how long it takes


def seconds_per_step(root: Path, records: Path = RECORDS) -> dict[tuple[str, str], float]:
    """(map, algorithm) to seconds for one environment step of one seed, as measured on this machine."""
    here, found = machine(), {}
    for path in (*sorted(records.glob("*/*/seed_*/summary.json")), *sorted(root.glob(f"*/*/seed*/{METRICS_FILE}"))):
        about = read_json(path.with_name(ABOUT)) or (read_json(path.with_name("summary.json")) or {}).get(
            "benchmark", {}
        )
        if about.get("machine") != here:
            continue
        row = last_row(path.parent)
        if row and row["env_steps"]:
            task, label = path.parts[-4], path.parts[-3]
            found[task, label.partition("-")[0]] = row["seconds"] / row["env_steps"] / int(about.get("num_seeds", 1))
    return found


def estimated_hours(case: Case, speeds: Mapping[tuple[str, str], float]) -> tuple[float | None, bool]:
    """Hours of a whole case, and whether they were measured; None where nothing like it was.

    What was not measured takes the speed of the map with the nearest number of units, in proportion to it, of the same
    algorithm or else of QMIX.
    """
    exact = speeds.get((case.task.name, case.algorithm))
    if exact is not None:
        return exact * case.steps / 3600, True
    from benchmark_plan import tasks

    units = {name: task.units for name, task in tasks().items()}
    for algorithm in (case.algorithm, "qmix"):
        like = {name: speed for (name, own), speed in speeds.items() if own == algorithm}
        if case.task.units is None:
            near = [speed for name, speed in like.items() if units.get(name) is None]
            if near:
                return near[0] * case.steps / 3600, False
            continue
        scaled = {name: case.task.units / own for name in like if (own := units.get(name))}
        if scaled:
            name = min(scaled, key=lambda name: abs(scaled[name] - 1))
            return like[name] * scaled[name] * case.steps / 3600, False
    return None, False


# ---- training


class Job(NamedTuple):
    """One command, and what it trains."""

    case: Case
    num_seeds: int
    folder: Path
    arguments: Sequence[str]
    hours: float | None


def jobs(wanted: Sequence[Status], root: Path, together: bool, peer: str | None, peer_python: str | None) -> list[Job]:
    """What is to be run for what is not finished, the longest first.

    Args:
        wanted: cases.
        root: for the folders of runs.
        together: neighbouring seeds of a case in one program; otherwise each in a process of its own.
        peer: a checkout of JaxMARL; without it, its runs are left out.
        peer_python: the Python with its dependencies.
    """
    speeds = seconds_per_step(root)
    left = [one for one in wanted if one.state in ("missing", "stopped")]
    found: list[Job] = []
    while left:
        first = left.pop(0)
        case, count = first.case, 1
        if case.is_peer and peer is None:
            continue
        while together and not case.is_peer and first.state == "missing" and left and _next(case, count, left[0]):
            left.pop(0)
            count += 1
        folder = first.folder if first.state == "stopped" else run_folder(root, case, count)
        seeds = (read_json(folder / "config.json") or {}) if first.state == "stopped" else {}
        case, count = case._replace(seed=seeds.get("seed", case.seed)), seeds.get("num_seeds", count)
        if any(job.folder == folder for job in found):
            continue
        hours = estimated_hours(case, speeds)[0]
        found.append(Job(case, count, folder, command(case, folder, count, peer, peer_python), hours))
    return sorted(found, key=lambda job: -(job.hours or float("inf")))


def _next(case: Case, count: int, other: Status) -> bool:
    return other.state == "missing" and other.case == case._replace(seed=case.seed + count)


def run_jobs(todo: Sequence[Job], cores: Sequence[int], say: Callable[[str], None]) -> list[Job]:
    """Run commands, one after the other or one on each of ``cores`` at a time; returns those that failed.

    Ctrl-C and SIGTERM end the commands as Ctrl-C does, with everything saved, and raise ``KeyboardInterrupt``.
    """
    slots: list[int | None] = list(cores) or [None]
    waiting, failed = list(todo), []
    running: dict[int | None, tuple[Job, subprocess.Popen[bytes]]] = {}
    with _interruptible(running):
        while waiting or running:
            for slot in slots:
                if slot not in running and waiting:
                    job = waiting.pop(0)
                    running[slot] = (job, _start(job, slot))
                    say(f"started {_named(job)}{'' if slot is None else f' on core {slot}'}: {job.folder}")
            time.sleep(0.2)
            for slot, (job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    failed += [job] if process.returncode else []
                    told = f"failed (see {_log(job)})" if process.returncode else "done"
                    say(f"{told}: {_named(job)}; {len(waiting) + len(running)} left")
    return failed


def _named(job: Job) -> str:
    case = job.case
    seeds = f"seed {case.seed}" if job.num_seeds == 1 else f"seeds {case.seed} to {case.seed + job.num_seeds - 1}"
    return f"{case.task.name} {case.label} {seeds}"


def _log(job: Job) -> Path:
    return job.folder.with_name(f"{job.folder.name}.log")


def _start(job: Job, core: int | None) -> "subprocess.Popen[bytes]":
    with writing("folder", job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
    known = read_json(job.folder / ABOUT) or {}
    about = {
        "command": shown_command(job.case),
        "machine": machine(),
        "cores": os.cpu_count() if core is None else 1,
        "num_seeds": job.num_seeds,
        "started": [*known.get("started", []), time.strftime("%Y-%m-%d %H:%M")],
    }
    write_json(job.folder / ABOUT, about)
    with _log(job).open("ab") as log:
        # In a session of its own, so that Ctrl-C reaches it once, from us.
        process = subprocess.Popen(job.arguments, stdout=log, stderr=log, start_new_session=True)
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    return process


@contextlib.contextmanager
def _interruptible(running: Mapping[Any, tuple[Job, "subprocess.Popen[bytes]"]]) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for _, process in running.values():
            process.send_signal(signal.SIGINT)
        for _, process in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)

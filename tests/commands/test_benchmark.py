"""The benchmark's machinery: plan, state of runs, records, tables; and one tiny benchmark from end to end."""

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qmix_jax import ConfigError
from qmix_jax.results.comparison.comparison import compare
from qmix_jax.results.policies import find_policy, load_policy, save_policy
from qmix_jax.running.resume import locked
from qmix_jax.settings.command_line import check, compose_config
from qmix_jax.settings.reading import to_container

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmark.py"


@pytest.fixture(autouse=True)
def experiments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))


def part(name: str) -> Any:
    return importlib.import_module(f"benchmark_{name}")


def write_run(folder: Path, win_rates: list[list[float]], *, steps: int = 2_000_000, **changes: Any) -> Path:
    """A finished run of the plain command on 3m, with these win rates ``[seeds, evaluations]``."""
    folder.mkdir(parents=True)
    settings = ["env=smax", "env.scenario=3m", f"total_env_steps={steps}", f"num_seeds={len(win_rates)}"]
    config = to_container(compose_config([*settings, *(f"{key}={value}" for key, value in changes.items())]))
    (folder / "config.json").write_text(json.dumps(config))
    count = len(win_rates[0])
    rows = [
        {
            "epoch": epoch + 1,
            "seed": seed,
            "env_steps": steps * (epoch + 1) // count,
            "seconds": 100.0 * (epoch + 1),
            "eval_return": 2 * rates[epoch],
            "eval_win_rate": rates[epoch],
            "loss": 0.123456789,
        }
        for epoch in range(count)
        for seed, rates in enumerate(win_rates)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ends = [rates[-1] for rates in win_rates]
    evaluation = {"return": [2 * x for x in ends], "win_rate": ends, "episode_length": [15.0] * len(ends)}
    summary = {
        "algorithm": "qmix",
        "env": "smax-3m",
        "num_seeds": len(ends),
        "seeds": list(range(len(ends))),
        "env_steps": steps,
        "env_steps_per_seed": [steps + seed for seed in range(len(ends))],
        "compile_seconds": 20.0,
        "train_seconds": 100.0 * count,
        "evaluation": evaluation,
        "best": {**evaluation, "env_steps": [steps] * len(ends)},
        "interrupted": False,
        "git_commit": "0123456789abcdef",
        "nonfinite": [{"seed": 1, "update": 3, "env_steps": 10}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_every_run_of_the_plan_has_a_command_that_the_project_accepts():
    plan = part("plan")
    known = plan.cases(seeds=[0])
    assert {case.task.name for case in known} == {*plan.SMAX, *plan.OWN_MAPS, *plan.MPE}
    assert {case.algorithm for case in known if case.task.name in plan.OWN_MAPS} == {"qmix"}
    assert not {case.algorithm for case in known} & set(plan.WITH_GRU), "only those that are named"
    assert {case.algorithm for case in plan.cases(["3m"], ["iql_gru"], [0])} == {"iql_gru"}
    assert {case.steps for case in known if case.task.name in ("MMM", "3s5z", "MMM2")} == {10_000_000}
    for case in known:
        tested = case.algorithm == "qmix" or case.task.name in ("3m", "simple_spread")
        if tested and not case.is_peer and plan.is_there(case.algorithm):
            check(plan.settings(case))
    assert not [case for case in known if case.is_peer and case.task.name in ("MMM", "MMM2", "2c_vs_64zg")]
    on = {name: {case.algorithm for case in known if case.task.name == name} for name in plan.MPE}
    assert on.pop("simple_spread") == {*plan.ALGORITHMS, "peer_qmix"} - set(plan.VARIANTS)
    assert all(names == {"qmix", "vdn", "iql", "peer_qmix"} for names in on.values())


def test_what_the_table_shows_is_in_the_plan():
    plan = part("plan")
    known = {(case.task.name, case.algorithm) for case in plan.cases(seeds=[0])}
    recorded = {
        (group.task.name, group.algorithm) for group in part("groups").read_groups() if group.task.name in plan.MPE
    }
    assert recorded <= known


@pytest.mark.parametrize(
    ("text", "steps"), [("2M", 2_000_000), ("2.3M", 2_300_000), ("800k", 800_000), ("2e6", 2_000_000), ("1_000", 1000)]
)
def test_steps_are_read_as_they_are_written(text: str, steps: int):
    assert part("plan").read_steps(text) == steps


def test_the_plan_trains_with_the_defaults_of_the_project():
    """Beside the map, the algorithm (or what one of its variants is) and the length nothing is set."""
    plan = part("plan")
    for case in plan.cases(algorithms=plan.ALGORITHMS, seeds=[0]):
        if case.algorithm in plan.VARIANTS:
            given = [one for one in plan.VARIANTS[case.algorithm][1:] if one != "algorithm=qmix"]
            assert plan.settings(case)[2:-1] == given
            continue
        keys = {argument.partition("=")[0] for argument in plan.settings(case)}
        assert keys <= {"env", "env.scenario", "env.task", "algorithm", "total_env_steps"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["lst"], "list"),
        (["list", "map=3s5y"], "3s5z"),
        (["list", "algorithm=qmxi"], "qmix"),
        (["list", "seeds=x"], "0-4"),
        (["list", "seeds=4-0"], "seeds=4-0: is empty; did you mean seeds=0-4?"),
        (["list", "seeds=0,4-2"], "seeds=4-2: is empty"),
        (["list", "map=[]"], "map=[]: names nothing"),
        (["run", "steps=many"], "2M"),
        (["run", "steps=inf"], "2M"),
        (["run", "steps=1e400"], "2M"),
        (["run", "steps=3000M"], "2M"),
        (["run", "steps=2kM"], "2M"),
        (["run", "cores=a"], "0,1"),
        (["run", "cores=12345"], "cores=12345: unknown; did you mean"),
        (["run", "algorithm=peer_qmix", "peer=nowhere", "dry=true"], "with baselines/QLearning/qmix_rnn.py"),
        (["run", f"folder={__file__}"], "must be a folder"),
        (["all", "page=nowhere.md"], "nowhere.md"),
        (["all", "tiny=true", "records=other"], "page="),
        (["record", "tiny=true"], "records="),
        (["policies", "runs/x", "episodes=0"], "episodes=0"),
        (["list", "map=MMM", "algorithm=peer_qmix"], "not compared there; MMM has qmix"),
        (["list", "runs/x"], "key=value"),
        (["record", "nowhere"], "config.json"),
        (["table", "page=nowhere.md"], "nowhere.md"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module("benchmark").main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert word in lines[0]


def test_a_run_is_missing_then_running_then_stopped_then_finished_then_recorded(tmp_path):
    plan, runs, record = part("plan"), part("runs"), part("record")
    (case,) = plan.cases(["3m"], ["qmix"], [1])

    def state() -> tuple[str, float]:
        found = runs.status(case, tmp_path / "runs", tmp_path / "records")
        return found.state, found.done

    assert state() == ("missing", 0.0)
    folder = write_run(tmp_path / "runs" / "3m" / "qmix" / "seeds_0_to_1", [[0.1, 0.2, 0.3, 0.4]] * 2)
    summary = (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:4]) + '\n{"epoch": 3, "se')
    with locked(folder):
        assert state() == ("running", 0.5)
    assert state() == ("stopped", 0.5)
    with pytest.raises(ConfigError, match="not finished"):
        record.record(folder, tmp_path / "records")
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "summary.json").write_text(summary)
    assert state() == ("finished", 1.0)
    record.record(folder, tmp_path / "records")
    assert state() == ("recorded", 1.0)


def test_what_is_left_is_run_the_longest_first_and_an_interrupted_run_goes_on_in_its_folder(tmp_path):
    plan, runs = part("plan"), part("runs")
    for name, seconds in (("3m", 1.0), ("8m", 4.0)):
        folder = write_run(tmp_path / name / "qmix" / "seed_0", [[0.5, 0.6]])
        (folder / "summary.json").unlink()
        (folder / "benchmark.json").write_text(json.dumps({"machine": runs.machine(), "num_seeds": 1}))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        rows[-1] |= {"seconds": 3600 * seconds, "env_steps": 1_000_000}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = [
        runs.status(case, tmp_path, tmp_path / "records") for case in plan.cases(["3m", "8m", "2s3z"], ["qmix"], [0, 1])
    ]
    todo = runs.jobs(wanted, tmp_path, together=False, peer=None, peer_python=None)
    assert [(job.case.task.name, job.case.seed, round(job.hours, 2)) for job in todo] == [
        ("8m", 0, 8.0),
        ("8m", 1, 8.0),
        ("2s3z", 0, 5.0),  # 10 units; the nearest that was measured is 8m with 16
        ("2s3z", 1, 5.0),
        ("3m", 0, 2.0),
        ("3m", 1, 2.0),
    ]
    assert f"run_dir={tmp_path / '8m' / 'qmix' / 'seed_0'}" in todo[0].arguments
    assert "resume=true" in todo[0].arguments
    together = runs.jobs(wanted, tmp_path, together=True, peer=None, peer_python=None)
    assert [(job.case.task.name, job.case.seed, job.num_seeds) for job in together if job.num_seeds > 1] == [
        ("2s3z", 0, 2)
    ]


def test_what_has_finished_is_recorded_and_tabled_even_where_a_run_fails(tmp_path, monkeypatch, capsys):
    main, page = importlib.import_module("benchmark"), tmp_path / "page.md"
    page.write_text("<!-- benchmark: begin --><!-- benchmark: end -->")
    places = [f"folder={tmp_path / 'runs'}", f"records={tmp_path / 'records'}", f"page={page}"]
    own = ["all", "map=3m", "algorithm=qmix", "seeds=0-1", *places]
    main.main([*own, "dry=true"])
    assert "seed=1" in capsys.readouterr().out
    assert not (tmp_path / "records").exists()

    def one_fails(todo, *_):
        write_run(tmp_path / "runs" / "3m" / "qmix" / "seed_0", [[0.5, 0.75]])
        return todo[1:]

    monkeypatch.setattr(main, "run_jobs", one_fails)
    with pytest.raises(SystemExit, match="1"):
        main.main(own)
    assert (tmp_path / "records" / "3m" / "qmix" / "seed_0" / "summary.json").is_file()
    assert "| qmix | 1 | " in page.read_text()

    def interrupted(*_):
        raise KeyboardInterrupt

    page.write_text("<!-- benchmark: begin --><!-- benchmark: end -->")
    monkeypatch.setattr(main, "run_jobs", interrupted)
    with pytest.raises(SystemExit, match="130"):
        main.main(own)
    assert "qmix" not in page.read_text()


def test_make_benchmark_gives_all_its_arguments_to_one_command():
    command = ["make", "--dry-run", "benchmark", "ARGS=folder=/x cores=0,1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "experiments/benchmark.py all folder=/x cores=0,1\n" in said
    assert said.count("benchmark.py") == 1


def test_a_record_is_one_seed_with_its_own_numbers(tmp_path):
    folder = write_run(tmp_path / "run", [[0.25, 0.5], [0.5, 0.75]])
    first, second = part("record").record(folder, tmp_path / "records")
    assert second == tmp_path / "records" / "3m" / "qmix" / "seed_1"
    summary = json.loads((second / "summary.json").read_text())
    assert summary["evaluation"] == {"return": [1.5], "win_rate": [0.75], "episode_length": [15.0]}
    assert summary["seeds"] == [1]
    assert summary["env_steps"] == 2_000_001
    assert summary["nonfinite"] == [{"seed": 1, "update": 3, "env_steps": 10}]
    assert json.loads((first / "summary.json").read_text())["nonfinite"] == []
    about = summary["benchmark"]
    assert about["command"] == "python -m qmix_jax.train env=smax env.scenario=3m total_env_steps=2000000 seed=1"
    assert about["commit"] == "0123456789abcdef"
    assert about["seconds"] == 220.0
    assert sum(path.stat().st_size for path in second.iterdir()) < 10_000
    rows = [json.loads(line) for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert [row["eval_win_rate"] for row in rows] == [0.5, 0.75]
    assert "loss" not in rows[0]


def test_a_run_with_other_settings_is_refused_unless_asked_for(tmp_path):
    record = part("record").record
    folder = write_run(tmp_path / "run", [[0.5]], **{"target.td_lambda": 0.25})
    with pytest.raises(ConfigError, match=r"not the plain command: target\.td_lambda=0\.25 \(plain: "):
        record(folder, tmp_path / "records")
    (own,) = record(folder, tmp_path / "records", changed=True)
    about = json.loads((own / "summary.json").read_text())["benchmark"]
    assert about["changed"] == {"target.td_lambda": 0.25}
    assert about["command"].endswith("seed=0 target.td_lambda=0.25")
    with pytest.raises(ConfigError, match="25m"):
        record(write_run(tmp_path / "other", [[0.5]], **{"env.scenario": "25m"}), tmp_path / "records")


def test_the_table_has_the_interquartile_means_and_the_seconds(tmp_path):
    table = part("table")
    rates = [[0.1, 0.6, 0.7, 0.95], [0.3, 0.4, 0.6, 0.75], [0.2, 0.55, 0.6, 0.85], [0.4, 0.4, 0.4, 0.45]]
    part("record").record(write_run(tmp_path / "run", rates), tmp_path / "records")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nto be replaced\n{table.END}\nafter\n")
    text = table.write(tmp_path / "records", page)
    assert "to be replaced" not in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert (tmp_path / "benchmark.png").stat().st_size > 5000
    (line,) = [line for line in text.splitlines() if line.startswith("| qmix |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # Of four seeds the middle two count: at 1M steps .4 and .55, at 2M .75 and .85.
    assert cells[1] == "4"
    assert cells[2].startswith("0.475 [")
    assert cells[3].startswith("0.800 [")
    assert cells[4] == cells[3]
    # To .5: after 200, 300, 200 and never; to .9: after 400, of one seed. 20 s of compiling on top, and a fourth of it
    # for each of four seeds in one run.
    assert cells[5] == ""  # no policies here, so none were played
    assert cells[7] == "20,000"  # four seeds of 5,000
    assert cells[8] == "68 (3 of 4)"
    assert cells[9] == "never (1 of 4)"
    assert "012345678" in text


def test_records_of_another_length_are_rows_of_their_own(tmp_path):
    record, table = part("record").record, part("table")
    record(write_run(tmp_path / "run", [[0.5, 0.6]]), tmp_path / "records")
    record(write_run(tmp_path / "half", [[0.4, 0.7]], steps=1_000_000), tmp_path / "records")
    groups = table.read_groups(tmp_path / "records")
    assert [group.label for group in groups] == ["qmix", "qmix-1M"]
    assert table.row(groups[1])[2:5] == ["0.700", "", "0.700"]


@pytest.mark.parametrize("variant", ["qmix_min_gru", "smax_pqn_vdn", "vdn_gru"])
def test_variants_are_recorded_under_their_own_name(variant, tmp_path):
    """Whatever algorithm it is; one setting more, and it is that algorithm with settings changed."""
    record, table = part("record").record, part("table")
    algorithm, *arguments = part("plan").VARIANTS[variant]
    arguments = [argument for argument in arguments if argument != "algorithm=qmix"]
    given = dict(argument.split("=") for argument in arguments)
    (own,) = record(write_run(tmp_path / "variant", [[0.5]], **given), tmp_path / "records")
    assert own.parent.name == variant
    about = json.loads((own / "summary.json").read_text())["benchmark"]
    assert about["command"].startswith(f"python -m qmix_jax.train env=smax env.scenario=3m {' '.join(arguments)} ")
    assert not about["changed"]
    folder = write_run(tmp_path / "more", [[0.7]], **given, gamma=0.9)
    with pytest.raises(ConfigError, match=r"gamma=0\.9"):
        record(folder, tmp_path / "records")
    (more,) = record(folder, tmp_path / "records", changed=True)
    assert more.parent.name == algorithm
    shutil.rmtree(more.parent)
    record(write_run(tmp_path / "run", [[0.25], [0.75]]), tmp_path / "records")
    lines = table.overview(table.read_groups(tmp_path / "records")).splitlines()
    if variant in part("plan").WITH_GRU:  # in the column of its algorithm, on a line of its own
        assert lines[-4] == f"| at the end of | `qmix` | `{algorithm}` |"
        assert lines[-2:] == ["| 3m, 2M | 0.500 (2) |  |", "| 3m, 2M, `agent=gru` |  | 0.500 |"]
        return
    assert lines[-3:] == [
        f"| at the end of | `qmix` | `{variant}` |",
        "| --- | --- | --- |",
        "| 3m, 2M | 0.500 (2) | 0.500 |",
    ]


def test_without_records_the_page_says_so(tmp_path):
    table = part("table")
    page = tmp_path / "page.md"
    page.write_text(f"{table.BEGIN}{table.END}")
    assert "No run" in table.write(tmp_path / "records", page)
    page.write_text("nothing")
    with pytest.raises(ConfigError, match="benchmark: begin"):
        table.write(tmp_path / "records", page)


def test_the_page_of_results_shows_what_is_recorded():
    """`make benchmark` was run after the last record."""
    table = part("table")
    text = table.PAGE.read_text(encoding="utf-8").partition(table.BEGIN)[2].partition(table.END)[0]
    groups = table.read_groups()
    assert text.strip() == table.markdown(groups, "benchmark.png" if groups else None)


CHILD = """
import signal, sys, time
from pathlib import Path

def save(*_):
    Path(sys.argv[1]).write_text("saved")
    sys.exit(0)

signal.signal(signal.SIGINT, save)
Path(sys.argv[1]).write_text("started")
time.sleep(60)
"""


def test_ctrl_c_ends_the_commands_and_leaves_them_to_go_on(tmp_path):
    runs, plan = part("runs"), part("plan")
    (case,) = plan.cases(["3m"], ["qmix"], [0])
    (tmp_path / "child.py").write_text(CHILD)
    mark = tmp_path / "mark"
    job = runs.Job(case, 1, tmp_path / "run", [sys.executable, str(tmp_path / "child.py"), str(mark)], None)

    def once_started(text: str) -> None:
        assert text.startswith("started 3m qmix seed 0")
        while not mark.exists() or mark.read_text() != "started":
            time.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        runs.run_jobs([job], [], once_started)
    assert mark.read_text() == "saved"
    about = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert about["command"].startswith("python -m qmix_jax.train env=smax")


def test_a_peer_s_log_becomes_the_metrics_of_a_run(tmp_path):
    peer = part("peer")
    config = {"SEED": 3, "NUM_ENVS": 100, "NUM_STEPS": 250}
    log = peer.Log(tmp_path, config)
    for iteration in range(1, 6):
        win_rate = np.float32("nan") if iteration < 4 else np.float32(iteration / 10)
        log.log({"test_returned_episode_returns": iteration, "test_returned_won_episode": win_rate, "win_rate": 9.0})
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["env_steps"], row["eval_return"], row["eval_win_rate"]) for row in rows] == [
        (50_000, 2.0, None),
        (100_000, 4.0, 0.4),
    ]
    assert log.env_steps == 125_000


def test_a_tiny_benchmark_from_end_to_end(tmp_path, capsys):
    """Train two seeds in one program, record them, write the table; the records can be compared like runs."""
    main = importlib.import_module("benchmark").main
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark: begin --><!-- benchmark: end -->")
    places = [f"folder={tmp_path / 'runs'}", f"records={tmp_path / 'records'}", "tiny=true"]

    def run(*arguments: str) -> str:
        main([*arguments, *places])
        return capsys.readouterr().out

    own = ("algorithm=qmix", "seeds=0-1")
    assert "done: two_step qmix seeds 0 to 1; 0 left" in run("run", *own, "together=true")
    assert run("run", *own, "together=true") == ""
    assert "finished: 0, 1" in run("list", *own)
    page_of = f"page={page}"
    assert run("all", *own, page_of).count("recorded=") == 2
    assert "| qmix | 2 |" in page.read_text()
    assert "recorded: 0, 1" in run("list", *own)
    records = sorted((tmp_path / "records").glob("*/*/seed_*/summary.json"))
    fresh = [json.loads(path.read_text())["fresh_episodes"] for path in records]
    assert [one["episodes"] for one in fresh] == [1000, 1000]
    (line,) = [line for line in run("table", f"page={page}").splitlines() if line.startswith("| qmix | 2 |")]
    assert line.split("|")[6].strip() == part("table").interval(np.array([one["return"][0] for one in fresh]))
    compared = compare([str(tmp_path / "records")])
    assert [len(values) for values in compared.scores.raw.values()] == [2]


def test_the_script_can_be_run():
    done = subprocess.run([sys.executable, str(SCRIPT), "help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("qmix_jax: the benchmark")


class TestPoliciesToPlayWith:
    """Without playing: how many fresh episodes a policy wins is given."""

    @pytest.fixture
    def policies(self, monkeypatch: pytest.MonkeyPatch):
        module = part("policies")
        fresh = {"episodes": 5, "win_rate": [0.5, 0.4, 0.6], "return": [1.0, 0.9, 1.1]}
        monkeypatch.setattr(module, "fresh_episodes", lambda *_: fresh)
        return module

    @staticmethod
    def a_run(folder: Path) -> Path:
        """With the policy for 3m that comes with the project, and no record of how it plays."""
        policy = load_policy(find_policy("smax_3m"))
        description = {key: value for key, value in policy.description.items() if key != "fresh_episodes"}
        save_policy(folder / "policies" / "seed_0" / "best", policy.params, description)
        (folder / "summary.json").write_text('{"env": "smax-3m"}')
        (folder / "config.json").write_text("{}")
        return folder

    def test_one_that_is_too_large_is_kept_in_float16(self, policies, monkeypatch, tmp_path):
        run = self.a_run(tmp_path / "run")
        stored = run / "policies" / "seed_0" / "best.safetensors"
        monkeypatch.setattr(policies, "LARGEST", stored.stat().st_size - 10_000)
        policies.ship([run], tmp_path / "kept", 5)
        kept = tmp_path / "kept" / "smax_3m.safetensors"
        assert kept.stat().st_size < 0.55 * stored.stat().st_size
        arrays = jax.tree.leaves(load_policy(kept).params)
        exact = jax.tree.leaves(load_policy(stored).params)
        for array, of_run in zip(arrays, exact, strict=True):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, of_run.astype(np.float16).astype(np.float32))
        assert sorted(path.name for path in kept.parent.iterdir()) == [
            "README.md",
            kept.with_suffix(".json").name,
            kept.name,
        ]

    def test_one_that_is_too_large_even_so_leaves_the_one_before(self, policies, monkeypatch, tmp_path):
        run, folder = self.a_run(tmp_path / "run"), tmp_path / "kept"
        policies.ship([run], folder, 5)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        monkeypatch.setattr(policies, "LARGEST", 1000)
        with pytest.raises(ConfigError, match="more than 1,000 bytes"):
            policies.ship([run], folder, 5)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

"""Which commit a run says that it was made with."""

import subprocess

from qmix_jax.results import summary

COMMIT = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]


def git(folder, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_a_commit_is_that_of_our_own_repository(tmp_path, monkeypatch):
    package = tmp_path / "venv" / "qmix_jax"
    package.mkdir(parents=True)
    (tmp_path / "theirs.py").touch()
    (package / "summary.py").touch()
    monkeypatch.setattr(summary, "__file__", str(package / "summary.py"))
    assert summary.provenance()["git_commit"] is None  # no repository
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "theirs.py")
    git(tmp_path, *COMMIT)
    assert summary.provenance()["git_commit"] is None  # somebody else's
    git(tmp_path, "add", ".")
    git(tmp_path, *COMMIT)
    assert summary.provenance()["git_commit"] == git(tmp_path, "rev-parse", "HEAD")


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert summary.provenance()["git_commit"] is None

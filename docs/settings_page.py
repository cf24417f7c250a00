"""Fills docs/settings.md from the files of conf/: every key with its default and the comment beside it."""

import html
import re
from pathlib import Path
from typing import Any

CONF = Path(__file__).resolve().parents[1] / "conf"
PLACE = "<!-- settings -->"
GROUPS = ("algorithm", "env", "agent", "mixer", "target", "exploration", "replay", "optimizer", "experiment")
ROLE = re.compile(r":(class|func|meth|attr|data|mod):(?=<code>)")
LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w/]+):(?: (?P<value>.*?))?(?:  ?# (?P<comment>.*))?$")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    return markdown.replace(PLACE, settings()) if PLACE in markdown else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Called by MkDocs for every page made: docstrings name things by roles, which only Sphinx knows."""
    return ROLE.sub("", html)


def settings() -> str:
    """The whole reference as Markdown."""
    parts = ["## Keys of every run", table(CONF / "config.yaml")]
    for group in GROUPS:
        files = sorted((CONF / group).glob("*.yaml"))
        if files:
            parts.append(f"## `{group}=`")
        for file in files:
            told = " ".join(line[2:] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
            prefix = "" if "@package _global_" in file.read_text(encoding="utf-8") else f"{group}."
            parts += [f"### `{group}={file.stem}`", told.replace("@package _global_", ""), table(file, prefix)]
    return "\n\n".join(part for part in parts if part)


def table(file: Path, prefix: str = "") -> str:
    """One line for each key of a file."""
    rows, path = [], []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        path = [*path[: len(match["indent"]) // 2], match["key"]]
        if path[0] in ("defaults", "hydra"):
            continue
        value, comment = match["value"], html.escape(match["comment"] or "").replace("|", "\\|")
        if value is None and not comment:
            continue  # a section: its keys follow
        shown = "" if value is None else f"`{value}`"
        rows.append(f"| `{prefix}{'.'.join(path)}` | {shown} | {comment} |")
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) if rows else ""

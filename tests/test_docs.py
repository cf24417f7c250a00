"""The documentation site, as far as that can be told without building it; `make docs` builds it strictly."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import qmix_jax
from qmix_jax.settings.command_line import compose_config
from qmix_jax.settings.reading import to_container

ROOT = Path(__file__).parents[1]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_every_page_is_in_the_navigation():
    named = re.findall(r"([\w.]+\.md)", str(SITE["nav"]))
    assert sorted(named) == [page.name for page in PAGES]


def test_the_page_of_python_names_all_that_the_package_shows():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    members = {name for names in re.findall(r"members: \[(.*?)\]", page) for name in names.split(", ")}
    assert set(dir(qmix_jax)) <= members


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target
        assert ".." not in target, "the site has no files outside docs/"


def test_the_page_of_settings_has_every_key():
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "docs" / "settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.on_page_markdown(f"before {module.PLACE} after")

    def leaves(tree: dict, prefix: str = "") -> list[str]:
        found = []
        for key, value in tree.items():
            found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
        return found

    for key in leaves(to_container(compose_config(["replay=prioritised"]))):
        assert f"| `{key}` |" in page, key
    assert "<date>" not in page
    assert module.on_page_content("<p>:class:<code>Env</code></p>") == "<p><code>Env</code></p>"


def test_the_pages_for_those_who_come_from_elsewhere_name_the_presets_that_there_are():
    pages = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("from_pymarl.md", "from_jaxmarl.md")
    )
    pattern = r"\b(?:e?pymarl2?|wqmix|jaxmarl_pqn)_[a-z_]+\b|\bqplex_sc2\b"
    there = {path.stem for group in ("algorithm", "target") for path in (ROOT / "conf" / group).glob("*.yaml")}
    published = {name for name in there if re.fullmatch(pattern, name)}
    shown = set(re.findall(pattern, re.sub(r"tests/[\w/.]+|qmix_jax\.\w+|runs/\w+", "", pages)))
    assert published == shown


def test_the_page_of_environments_names_all():
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "conf" / "env").glob("*.yaml")]
    assert not [name for name in names if not re.search(rf"`(?:env=)?{name}\b", page)]

"""Imports point one way, and each heavy library is known to one place only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qmix_jax"

LAYERS = (
    {"types", "errors", "runtime"},
    {
        "agents",
        "explore",
        "initializers",
        "linear",
        "mixers",
        "optimizers",
        "parts",
        "recurrent",
        "replay",
        "standardise",
        "targets",
        "values",
    },
    {"envs", "rollout", "storage"},
    {"evaluate", "metrics"},
    {"algorithm"},
    {"memory", "sweep"},
    {
        "build",
        "cells",
        "checkpoint",
        "clock",
        "config",
        "hosts",
        "interrupt",
        "logging",
        "plots",
        "policy",
        "pymarl",
        "report",
        "results",
        "scores",
        "session",
        "sweep_plots",
    },
    {"bench", "check_env", "command_line", "import_pymarl", "library", "play", "resume", "train"},
)
"""From left to right: a module imports from its own layer and those before it."""

AT_HOME_IN = {
    "hydra": {"command_line", "train"},
    "omegaconf": {"command_line", "config", "train"},
    "wandb": {"logging.wandb"},
    "jaxmarl": {"envs.jaxmarl"},
    "orbax": {"checkpoint"},
    "rich": {"check_env", "logging.bar", "logging.console", "play"},
}
"""Libraries, and the only modules that may import them."""

LIGHT = ("hydra", "wandb", "jaxmarl")
"""Libraries that `import qmix_jax` must not pay for: only imported when something runs, except in the last layer."""

COMMAND_LINES = {"evaluate", "train"}
"""Modules that are also commands, which may import what they put together once they are run as such."""


def modules() -> list[str]:
    names = (path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py")))
    return [".".join(name.parts).removesuffix(".__init__") for name in names if "conf" not in name.parts]


def parse(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(module: str) -> list[tuple[str, bool]]:
    """Every imported name of ``module`` as a dotted path, and whether that happens when the module is imported."""
    tree = parse(module)
    lazy = {id(node) for block in ast.walk(tree) if runs_later(block) for node in ast.walk(block)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            found += [(f"{node.module}.{alias.name}", id(node) not in lazy) for alias in node.names]
    return found


def runs_later(node: ast.AST) -> bool:
    """Whether importing the module does not run ``node``: a function, or what only a command runs."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "__name__ == '__main__'"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def layer(module: str) -> int:
    part = module.split(".")[0]
    for index, members in enumerate(LAYERS):
        if part in members:
            return index
    raise AssertionError(f"qmix_jax/{part} has no layer: give it one in LAYERS")


@pytest.mark.parametrize("module", [name for name in modules() if name != "__init__"])
def test_a_module_imports_only_from_its_layer_and_those_before_it(module):
    for name, at_import in imports(module):
        library, _, inner = name.partition(".")
        if library != "qmix_jax" or (module in COMMAND_LINES and not at_import):
            continue
        assert inner, f"{module} imports the whole package"
        assert layer(inner) <= layer(module), f"{module} imports {name}, which comes after it"


@pytest.mark.parametrize("module", modules())
def test_a_library_is_imported_only_where_it_is_at_home(module):
    for name, at_import in imports(module):
        library = name.split(".")[0]
        assert module in AT_HOME_IN.get(library, {module}), f"{module} imports {library}"
        if at_import and module.split(".")[0] not in LAYERS[-1]:
            assert library not in LIGHT, f"{module} imports {library} outside a function"


def test_every_place_in_the_layers_is_taken_once():
    names = [name for members in LAYERS for name in members]
    assert len(names) == len(set(names))

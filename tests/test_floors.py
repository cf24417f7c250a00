"""The house: a file imports from its own room or from lower floors, and each heavy library is at home in one place."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qmix_jax"

FLOORS = (
    {"types", "errors", "streams"},
    {"networks", "envs"},
    {"mixers", "acting", "replay"},
    {"learning"},
    {"algorithms"},
    {"settings"},
    {"logging"},
    {"results"},
    {"running"},
    {"train", "evaluate", "compare", "dashboard", "check_env", "import_pymarl", "bench"},
    {"library"},
)
"""From the ground up. Rooms of one floor do not import each other."""

COMMANDS = FLOORS[-2]
MOST_LINES = 300
MOST_FILES = 12

AT_HOME_IN = {
    "hydra": {"settings.combined", "settings.command_line", "settings.overrides", "train"},
    "omegaconf": {"settings.combined", "settings.command_line", "settings.reading", "train"},
    "tensorboardX": {"logging.tensorboard"},
    "wandb": {"logging.wandb", "logging.dashboard"},
    "jumanji": {"envs.jumanji.environment"},
    "jaxmarl": {"envs.jaxmarl", "envs.jaxmarl_classes"},
    "orbax": {"running.checkpoint"},
    "tensorstore": {"running.checkpoint"},
    "rich": {"check_env", "logging.bar", "logging.console", "evaluate"},
}
"""Libraries, and the only modules that may import them."""

LIGHT = ("hydra", "wandb", "jaxmarl", "jumanji")
"""Libraries that `import qmix_jax` must not pay for: imported inside functions, except by commands and their parser."""


def modules() -> list[str]:
    names = (path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py")))
    return [".".join(name.parts).removesuffix(".__init__") for name in names if "conf" not in name.parts]


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> list[tuple[str, bool]]:
    """Every imported name of ``module`` as a dotted path, and whether that happens when the module is imported."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            found += [(f"{node.module}.{alias.name}", id(node) not in lazy) for alias in node.names]
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    for index, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return index
    raise AssertionError(f"qmix_jax/{room(module)} is on no floor: give it one in FLOORS")


@pytest.mark.parametrize("module", [name for name in modules() if name != "__init__"])
def test_a_module_imports_only_its_own_room_and_lower_floors(module):
    for name, _ in imports(module):
        library, _, inner = name.partition(".")
        if library != "qmix_jax":
            continue
        assert inner, f"{module} imports the whole package"
        below = room(inner) == room(module) or floor(inner) < floor(module)
        assert below, f"{module} imports {name}, which is not below it"


@pytest.mark.parametrize("module", modules())
def test_a_library_is_imported_only_where_it_is_at_home(module):
    for name, at_import in imports(module):
        library = name.split(".")[0]
        assert module in AT_HOME_IN.get(library, {module}), f"{module} imports {library}"
        if at_import and room(module) not in COMMANDS and module not in AT_HOME_IN["hydra"]:
            assert library not in LIGHT, f"{module} imports {library} outside a function"


def test_no_imports_in_a_circle():
    names = set(modules())

    def targets(module: str) -> set[str]:
        found = {name.removeprefix("qmix_jax.") for name, _ in imports(module) if name.startswith("qmix_jax.")}
        return {part for name in found for part in (name, name.rpartition(".")[0]) if part in names} - {module}

    graph = {name: targets(name) for name in names if not path_of(name).name.startswith("__")}
    while leaves := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"imports in a circle among {sorted(graph)}"


def test_files_and_folders_stay_small():
    long = {name: count for name in modules() if (count := len(path_of(name).read_text().splitlines())) > MOST_LINES}
    assert not long
    folders = {path.parent for path in PACKAGE.rglob("*.py") if "conf" not in path.parts}
    full = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert not {folder.name: count for folder, count in full.items() if count - 1 > MOST_FILES}, "beside __init__.py"


def test_every_place_on_the_floors_is_taken_once():
    names = [name for rooms in FLOORS for name in rooms]
    assert len(names) == len(set(names))

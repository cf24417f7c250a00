"""Import a part of a large package without running the code of the packages around it."""

import importlib.util
import sys
import types


class LazyPackage(types.ModuleType):
    """A package whose own code runs once something is asked for that is not an imported part of it."""

    def __getattr__(self, name: str) -> object:
        """Only called for what is not there yet."""
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = types.ModuleType  # pyright: ignore[reportAttributeAccessIssue]
        spec.loader.exec_module(self)
        return getattr(self, name)


def make_lazy(*names: str) -> None:
    """Make packages lazy that have not been imported yet, outer ones first; those that are not installed stay so."""
    for name in names:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            continue
        package = importlib.util.module_from_spec(spec)
        package.__class__ = LazyPackage
        sys.modules[name] = package
        outer, _, last = name.rpartition(".")
        if outer:
            setattr(sys.modules[outer], last, package)

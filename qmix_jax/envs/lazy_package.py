"""Import a part of a large package without running the code of the packages around it."""

import importlib.util
import sys
import types


class LazyPackage(types.ModuleType):
    """A package whose own code runs at the first access to an attribute that is not an imported submodule."""

    def __getattr__(self, name: str) -> object:
        """Only called for attributes that do not exist yet."""
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = types.ModuleType  # pyright: ignore[reportAttributeAccessIssue]
        spec.loader.exec_module(self)
        return getattr(self, name)


def make_lazy(*names: str) -> None:
    """Make packages lazy, outer ones first, unless they are already imported or not installed."""
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

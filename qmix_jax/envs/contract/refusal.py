"""Errors of a user's environment, and its broken promises, as :class:`ConfigError`."""

import contextlib
from collections.abc import Iterator

import jax

from qmix_jax.envs.contract.findings import Finding, failure
from qmix_jax.errors import USERS_ERRORS, ConfigError

IN_NUMPY = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
PYTHON_DOORS = "an environment that stays in NumPy or Python goes to env=pettingzoo, env=gymnasium or env=pymarl"


class BrokenPromiseError(ConfigError):
    """A promise that an environment breaks; ``finding`` is what ``check_env`` reports."""

    def __init__(self, told: str, finding: Finding) -> None:
        super().__init__(f"{told}: {finding.words}")
        self.finding = finding


def refused(told: str, what: str, error: BaseException, otherwise: str | None = None) -> BrokenPromiseError:
    """An exception of a user's environment in one line; ``otherwise`` is the advice where there is no other."""
    finding = failure("jit", what, error, otherwise)
    if isinstance(error, IN_NUMPY):
        finding = finding._replace(words=f"{finding.words}; {PYTHON_DOORS}")
    return BrokenPromiseError(told, finding)


@contextlib.contextmanager
def users_code(told: str, what: str) -> Iterator[None]:
    """Raise :class:`BrokenPromiseError`, which begins with ``told``, for any error of a user's code in ``what``."""
    try:
        yield
    except ConfigError:
        raise
    except USERS_ERRORS as error:
        raise refused(told, what, error) from error


def as_refusal(told: str, finding: Finding) -> BrokenPromiseError:
    """A finding that a function cannot be traced, and where NumPy code goes."""
    in_numpy = any(words in finding.words for words in ("use jax.numpy", "index a jnp array"))
    return BrokenPromiseError(told, finding._replace(words=f"{finding.words}; {PYTHON_DOORS}") if in_numpy else finding)

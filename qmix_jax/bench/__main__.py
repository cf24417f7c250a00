"""The command line ``python -m qmix_jax.bench``."""

import sys
from collections.abc import Sequence

from qmix_jax.bench.measure import measure
from qmix_jax.bench.process import ProcessError
from qmix_jax.bench.settings import USAGE, parse
from qmix_jax.settings.arguments import run_command


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for invalid settings."""
    run_command(USAGE, argv, _command)


def _command(arguments: list[str]) -> int:
    try:
        measure(*parse(arguments))
    except ProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()

"""``python -m qmix_jax.import_pymarl``: import PyMARL's saved networks as policies, and export policies."""

from collections.abc import Sequence
from pathlib import Path

from qmix_jax.errors import ConfigError, writing
from qmix_jax.settings.arguments import check_form, run_command

USAGE = """\
Import a network saved by PyMARL, PyMARL2 or EPyMARL as a policy for qmix_jax.evaluate:

  python -m qmix_jax.import_pymarl agent.th [mixer.th] run_dir=FOLDER env=... [env.KEY=VALUE ...]

Export a policy as a PyMARL state dict:

  python -m qmix_jax.import_pymarl out=agent.npz run_dir=FOLDER [seed=0] [which=final|best] [cell=0]

Without seed= it is the run's first seed, and of a sweep without cell= the best cell.

Files are .safetensors, .npz, .th or .pt. Reading .th needs PyTorch (pip install torch); only arrays are loaded.
The mixer is not part of a policy. It is saved beside it, for qmix_jax.evaluate explain=FOLDER.

Example:

  python -m qmix_jax.import_pymarl agent.safetensors run_dir=runs/imported env=smax env.scenario=3m
  python -m qmix_jax.evaluate run_dir=runs/imported"""

OPTIONS = ("run_dir", "out", "seed", "which", "cell")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit status 2, with one line on standard error, for invalid input."""
    run_command(USAGE, argv, convert, needs_arguments=True)


def convert(arguments: list[str]) -> None:
    """Import or export what the arguments name, and print the paths of what was written."""
    from qmix_jax.results.pymarl_files import SUFFIXES, export_policy, import_policy  # Not at the top: needs JAX.

    def is_file(argument: str) -> bool:
        """The name of a file may have a = in it."""
        is_setting = "=" in argument or argument in OPTIONS or argument.startswith(("-", "~"))
        return not is_setting or (Path(argument).suffix in SUFFIXES and Path(argument).is_file())

    files = [argument for argument in arguments if is_file(argument)]
    settings = [argument for argument in arguments if argument not in files]
    check_form(settings)
    options = dict(a.split("=", 1) for a in settings if a.split("=", 1)[0] in OPTIONS)
    overrides = [a for a in settings if a.split("=", 1)[0] not in OPTIONS]
    run_dir = options.get("run_dir")
    if not run_dir:
        raise ConfigError("run_dir: missing; give a folder: run_dir=runs/imported")
    if "out" in options:
        if files or overrides:
            raise ConfigError(f"{(files + overrides)[0]}: not used with out=; the policy has all settings")
        with writing("out", options["out"]):
            print(f"out={export_policy(Path(run_dir), Path(options['out']), options)}")
        return
    if not 1 <= len(files) <= 2:
        raise ConfigError(f"{' '.join(files) or 'agent file'}: give the agent's file and optionally the mixer's")
    with writing("run_dir", run_dir):
        written = import_policy([Path(file) for file in files], Path(run_dir), overrides)
    for path in written:
        print(f"policy={path}")


if __name__ == "__main__":
    main()

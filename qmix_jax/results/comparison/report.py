"""Write a comparison as a folder with one page and its figures."""

from pathlib import Path

from qmix_jax.errors import writing
from qmix_jax.logging.files import whole
from qmix_jax.results.comparison.comparison import Comparison
from qmix_jax.results.comparison.figures import draw
from qmix_jax.results.comparison.page import page


def write(comparison: Comparison, folder: Path, *, title: str = "", refresh: int | None = None) -> Path:
    """Write ``report.html`` and the figures (PNG and PDF) into ``folder``; return the page's path.

    Args:
        comparison: what to show.
        folder: created if needed.
        title: of the page.
        refresh: seconds after which a browser loads the page again.
    """
    with writing("out", folder):
        folder.mkdir(parents=True, exist_ok=True)
        figures = draw(comparison, folder)
        with whole(folder / "report.html") as partial:
            text = page(comparison, figures, title=title, refresh=refresh)
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder may have any name
    return folder / "report.html"

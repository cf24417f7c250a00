"""Which observations are images."""

from collections.abc import Sequence


def image_shape_of(shapes: Sequence[Sequence[int]]) -> tuple[int, int, int] | None:
    """Height, width and channels, where the observations of all agents have one shape and it may be an image's."""
    if len(set(map(tuple, shapes))) != 1 or len(shapes[0]) not in (2, 3):
        return None
    height, width, *channels = (int(size) for size in shapes[0])
    return height, width, channels[0] if channels else 1

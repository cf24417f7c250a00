"""Traced programs that are kept between starts."""

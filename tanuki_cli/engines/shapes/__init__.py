"""Answers in a shape: what can be asked for, how it is read, and how an answer is kept to it."""

from tanuki_cli.engines.shapes.shape import Shape, ShapeKind

__all__ = ["Shape", "ShapeKind"]

"""The machine: its hardware, GPUs and limits, and the packages of its Python."""

"""Models in safetensors on transformers: ``open_checkpoint`` opens one; ``TransformersSummary`` says what
that requires and takes, and checks it."""

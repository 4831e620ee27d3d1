"""Models in safetensors on transformers."""

"""GGUF models on llama.cpp: ``open_gguf`` opens one; ``LlamaCppSummary`` says what that requires and takes,
and checks it."""

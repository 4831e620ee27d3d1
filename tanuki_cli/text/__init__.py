"""Text without a screen: its width, its line breaks, what is safe to print, and reading it from bytes."""

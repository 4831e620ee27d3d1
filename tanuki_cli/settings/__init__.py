"""The options, each declared once (specs), their values, and the file that keeps them."""

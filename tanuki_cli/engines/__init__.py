"""Where text becomes tokens and back: what every engine shares, and one folder an engine."""

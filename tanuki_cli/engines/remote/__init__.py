"""Models that a server with OpenAI's interface runs."""

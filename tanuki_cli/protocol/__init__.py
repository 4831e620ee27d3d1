"""OpenAI's protocol as others write it: read once, for whoever takes such requests."""

"""The first run: the offer of a model, the welcome, a download beside the chat."""

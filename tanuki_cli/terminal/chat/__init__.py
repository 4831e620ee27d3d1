"""The chat on a terminal: prompt, keys, slash commands, status line."""

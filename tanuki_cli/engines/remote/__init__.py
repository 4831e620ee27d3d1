"""Models that a server with OpenAI's interface runs: ``open_server`` opens one."""

"""HTTP on the engine, as OpenAI's clients speak it: one engine thread behind an asyncio front."""

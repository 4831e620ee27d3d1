"""A model that stays loaded between commands: a background process of this user's, on a Unix socket.

``keeper`` is that process, ``engine`` an engine that has it answer, ``finding`` starts it or finds it.
Only the standard library is imported here: ``ask`` is to begin at once.
"""

"""The arena on a screen: two answers, a vote, and in the end the standings."""

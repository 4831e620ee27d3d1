"""Answers of models compared blindly by people: votes, and what they say of the models."""

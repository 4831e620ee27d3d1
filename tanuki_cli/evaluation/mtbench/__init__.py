"""MT-Bench in Japanese: answers in FastChat's form, a judge's scores, and what they come to.

``setup`` puts a run together, ``generating`` answers, ``judging`` scores, ``report`` counts.
"""

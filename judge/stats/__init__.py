"""Intervals and tests for scores, in plain Python: pure, seeded, nothing here knows of a judge.

Questions about one video are no independent observations: what is hard about it is hard for all of
them. So everything here counts by cluster (the video or image), never by question.
"""

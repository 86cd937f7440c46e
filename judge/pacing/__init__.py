"""How fast, how often and how long a judge is asked: policies. The loop in `judge.asking` owns
admission and the clock; nothing here sleeps, reads a clock or knows of HTTP."""

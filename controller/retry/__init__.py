"""Failed rows of a finished run, asked again alone.

A finished run never changes. A retry is a run of its own, with a ledger of its own, whose job names
the finished one (`spec.retryOf`): its rows are the failed ones of that, with their place in the
prompts. Its end joins the answers kept and the answers had now, so that its folder holds the whole
job's outputs, and the next retry starts from there.
"""

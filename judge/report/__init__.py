"""`report.html`: one self-contained page about a run and what the judge said of it."""

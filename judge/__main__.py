"""`python -m judge`: the judge's commands in a process of their own."""

from judge.cli import app

if __name__ == "__main__":
    app(prog_name="judge")

"""`python -m crackmodel`: the command line, by its interpreter."""

from __future__ import annotations

from crackmodel.cli.main import app

if __name__ == "__main__":
    app(prog_name="crackmodel")

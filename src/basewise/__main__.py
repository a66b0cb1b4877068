"""`python -m basewise`: the command line, for torchrun and for where the script is not on the path."""

from __future__ import annotations

from basewise.cli.main import main

if __name__ == "__main__":
    main()

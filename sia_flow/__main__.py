"""`python -m sia_flow` is the `sia-flow` command."""

from sia_flow.cli.main import main

main()

"""`python -m avbench`, and what torchrun starts."""

from avbench.cli.app import main

main()

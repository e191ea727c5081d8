"""`python -m avbench`, and what torchrun starts."""

from avbench.cli import main

main()

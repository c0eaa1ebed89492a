"""Run the command line as a module: `python -m biosegment.cli`."""

from biosegment.cli import main

main()

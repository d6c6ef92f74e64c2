"""`python -m benchmark`."""

from benchmark.cli.parser import main

raise SystemExit(main())

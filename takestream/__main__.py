"""The `takestream` command.

The command line belongs to the service, which runs from its checkout; the wheel holds the reader
alone. So the script looks for the service and says plainly when it is not there.
"""

import importlib
import importlib.util
import sys


def main() -> None:
    """Run the service's command line, or exit 2 saying how to get it."""
    if importlib.util.find_spec("service") is None:
        print(
            "takestream: this environment holds the reader only (import takestream). "
            "The command line runs from a checkout: clone the repository and run `make install`.",
            file=sys.stderr,
        )
        sys.exit(2)
    importlib.import_module("service.cli.main").main()


if __name__ == "__main__":
    main()

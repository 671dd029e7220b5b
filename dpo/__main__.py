"""python -m dpo <command> [...], also as `dpo <command>` where the package is installed."""

import sys

from dpo.cli import command_line


def main() -> None:
    sys.exit(command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()

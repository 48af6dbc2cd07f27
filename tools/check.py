"""Run every check that a change must pass: style, shell, types, the smoke profile, unit tests, the site."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS = (
    [sys.executable, "-m", "ruff", "check", "."],
    [sys.executable, "-m", "ruff", "format", "--check", "."],
    [str(BIN / "shellcheck"), "run_all.sh", ".ci/run"],
    [sys.executable, "-m", "mypy"],
    [sys.executable, "tools/execute.py", "--profile", "smoke"],
    [sys.executable, "tools/execute.py", "--profile", "smoke", "--solutions"],
    [sys.executable, "-m", "pytest"],
    ["./run_all.sh", "--site"],
)


def main() -> int:
    """Run all checks, even after a failure; return the exit status."""
    # No check needs the network; without this, Hub look-ups wait for a time-out where there is none.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    failed = []
    for command in CHECKS:
        shown = " ".join(Path(word).name if word.startswith("/") else word for word in command)
        print(f"== {shown}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:  # noqa: S603 - our own
            failed.append(shown)
    print("failed: " + "; ".join(failed) if failed else "all checks passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

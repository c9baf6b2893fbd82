"""A peer's Python packages in a virtual environment of the cache folder.

A module of a peer has a class `Peer` for the process that compares, which needs
the standard library alone, and runs itself in the environment for everything
else, each measurement in a process of its own.
"""

import json
import subprocess
import sys


class Venv:

    def __init__(self, cache, package, note=""):
        self.package = package
        venv = cache / "venv"
        self.python = venv / "bin/python"
        # One environment serves all peers; each notes that it is complete.
        done = venv / f"complete-{package}"
        if not done.exists():
            print(f"installing {package}{note}", file=sys.stderr)
            if not self.python.exists():
                subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            subprocess.run([self.python, "-m", "pip", "install", "-q", package],
                           check=True)
            done.touch()

    def run(self, script, *arguments):
        """What the script prints last, as JSON."""
        done = subprocess.run([self.python, script, *map(str, arguments)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)
        if done.returncode:
            raise SystemExit(f"{self.package} failed: {arguments}\n"
                             f"{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

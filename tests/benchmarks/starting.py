"""starting: seconds, each in a process of its own, median of seven in turns."""

import subprocess
import sys

from timing import in_turns

WAYS = {
    "import numpy": ["-c", "import numpy"],
    "import mdvae": ["-c", "import mdvae"],
    "import numpy, mdvae": ["-c", "import numpy, mdvae"],
    "mdvae --help": ["-m", "mdvae", "--help"],
}


def starting():
    def job(arguments):
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    seconds, _ = in_turns({name: job(arguments) for name, arguments in WAYS.items()}, 7)
    for name, took in seconds.items():
        print(f"{name:22}{took:6.2f}")

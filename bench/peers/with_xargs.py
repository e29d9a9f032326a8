"""xargs: two commands at once, all with one pipe for what they print."""

import subprocess


def run(tasks: int) -> None:
    numbers = "\n".join(map(str, range(tasks)))
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=numbers, text=True, check=True, stdout=subprocess.PIPE)

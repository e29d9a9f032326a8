"""GNU parallel: two jobs at once, each noted in a log of jobs, from which it could go on."""

import subprocess


def run(tasks: int) -> None:
    numbers = "\n".join(map(str, range(tasks)))
    words = ["parallel", "--will-cite", "-j2", "--joblog", "jobs.log", "/bin/true"]
    subprocess.run(words, input=numbers, text=True, check=True, stdout=subprocess.DEVNULL)

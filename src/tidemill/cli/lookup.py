"""Finding the execution that is meant by the words of a command."""

from tidemill.cli.exits import usage
from tidemill.sdk import ApiError, Client, Execution


def find_execution(client: Client, word: str, command: str) -> Execution:
    """An execution by its id or a prefix of it, whatever its job.

    `command` is what was typed before the word. Raises ApiError when there is none, a usage error when the word is the
    name of a job instead.
    """
    try:
        return client.find_execution(word)
    except ApiError as error:
        if error.status not in {400, 404} or not _is_job(client, word):
            raise
        raise usage(
            f"{word!r} is a job: which of its executions?",
            f"tidemill {command} {word} ID",
            f"the ids:  tidemill get executions {word}",
        ) from error


def _is_job(client: Client, name: str) -> bool:
    try:
        client.get_job(name)
    except ApiError:
        return False
    return True

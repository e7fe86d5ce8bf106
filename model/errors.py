"""The one exception that is meant for people."""


class GpucaptError(Exception):
    """Something the user can mend.

    The message is one line: it names the input, what is wrong with it and what to do. The command
    line prints it without a traceback and exits with 1.
    """

"""What can be wrong with an input."""

from model.errors import GpucaptError


class BadInput(GpucaptError):
    """This one input cannot be used.

    It is set aside with the message as its reason, and the run goes on with the others. The message
    is one line that names the input and says what is wrong with it.
    """

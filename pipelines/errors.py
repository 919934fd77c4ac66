"""What is the user's to fix, as against what is a bug: `Fault`, and the exit code that each kind of it carries."""


class Fault(Exception):
    """Something the user can fix; the command line prints the message, without a traceback, and exits with `code`.

    The message reads `<argument> must <expectation>, got <value>` and names the remedy.
    """

    INPUT = 2  # the recipe, an option, a path
    DATA = 3  # the images or labels
    GATE = 4  # a requirement of the recipe did not hold
    DIVERGED = 5  # the loss is not a number

    def __init__(self, message: str, *, code: int = INPUT) -> None:
        super().__init__(message)
        self.code = code

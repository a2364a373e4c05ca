"""The error by which a grader refuses a submission."""


class InvalidSubmissionError(Exception):
    """The submission does not have the form that the grader wants."""

import re


def fits(pattern, text):
    """True if a text begins with a pattern, in which * stands for words of another package."""
    return re.match(re.escape(pattern).replace(r"\*", ".*"), text) is not None

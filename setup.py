"""Only what package indexes show: README.md, whose relative links and pictures lead nowhere there."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = ""  # https://HOST/OWNER/iagraph once it is public; without, links become text and pictures are left out


def absolute(found: re.Match) -> str:
    """A relative link or picture, absolute."""
    picture, text, path = found.groups()
    if not REPOSITORY:
        return "" if picture else text
    return f"{picture}[{text}]({REPOSITORY}/{'raw' if picture else 'blob'}/HEAD/{path})"


readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    long_description=re.sub(r"(!?)\[([^]\n]*)\]\(((?![a-z]+:|#)[^)\n]*)\)", absolute, readme),
    long_description_content_type="text/markdown",
    project_urls={"Repository": REPOSITORY} if REPOSITORY else {},
)

"""The map of the house in CONTRIBUTING.md: every room is on it, and imports point up."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAP = re.findall(r"^\| (`iagraph/.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
FLOOR = {room: floor for floor, row in enumerate(MAP) for room in re.findall(r"`iagraph/(\w+)", row)}


def room_of(path):
    return path.relative_to(ROOT / "iagraph").parts[0].removesuffix(".py")


FILES = [path for path in (ROOT / "iagraph").rglob("*.py") if path.parent.name != "iagraph" or path.stem != "__init__"]


def test_every_room_is_on_the_map_and_every_place_on_the_map_is_there():
    assert {room_of(path) for path in FILES} == set(FLOOR)


def test_imports_point_to_rooms_above():
    down = []
    for path in FILES:
        imported = re.findall(
            r"^\s*(?:from|import) iagraph\.(\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        down += [(str(path.relative_to(ROOT)), room) for room in imported if FLOOR[room] > FLOOR[room_of(path)]]
    assert not down

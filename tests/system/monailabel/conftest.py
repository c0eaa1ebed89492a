from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.monailabel.lab import Lab, open_lab
from tests.system.monailabel.person import Person, make_people


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("monailabel")) as started:
        yield started


@pytest.fixture(scope="module")
def tokens(lab: Lab) -> dict[str, str]:
    return make_people(lab)


@pytest.fixture
def person(lab: Lab, tokens: dict[str, str], tmp_path: Path) -> Callable[[str], Person]:
    return lambda user: Person(lab, tokens, user, tmp_path)

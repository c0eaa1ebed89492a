"""Projects, their classes and members: values and rules."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from biosegment.auth import Role
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import FIRST_CLASS

LAST_CLASS = 255
DEFAULT_RESOLUTION_NM = 10.0
_PALETTE = (0xE6194B, 0x3CB44B, 0x4363D8, 0xF58231, 0x911EB4, 0x42D4F4, 0xF032E6, 0xBFEF45)


class ProjectField(enum.StrEnum):
    """What UpdateProject may change."""

    DISPLAY_NAME = "display_name"
    DESCRIPTION = "description"
    CLASSES = "classes"
    WORKING_RESOLUTION_NM = "working_resolution_nm"


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One thing to segment.

    Attributes:
        value: 2..255; 0 only in requests: the server chooses.
        display_name: For people, unique in the project.
        color_rgb: 0xRRGGBB.
    """

    value: int
    display_name: str
    color_rgb: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """Volumes, classes and members that belong together.

    Attributes:
        storage_key: Prefix of its objects, without the final '/'.
        retired_values: Class values that were used once and must not come back.
        version: Grows with every change; part of the etag.
    """

    id: str
    display_name: str
    description: str
    classes: tuple[LabelClass, ...]
    working_resolution_nm: float
    storage_key: str
    create_time_us: int
    update_time_us: int
    retired_values: tuple[int, ...] = ()
    version: int = 1

    @property
    def name(self) -> str:
        return f"projects/{self.id}"

    @property
    def etag(self) -> str:
        return make_etag(self.create_time_us, self.version)

    @property
    def class_values(self) -> frozenset[int]:
        return frozenset(label.value for label in self.classes)

    def changed(
        self, wanted: Project, fields: Sequence[ProjectField], used_values: frozenset[int], now_us: int
    ) -> Project:
        """This project with the `fields` of `wanted`.

        Args:
            wanted: Values of the fields; the rest is ignored.
            fields: What to change.
            used_values: Class values that annotations or layers speak of.
            now_us: The present.

        Raises:
            FailedPrecondition: CLASS_IN_USE when a class with annotations would go away.
        """
        changed = self
        if ProjectField.DISPLAY_NAME in fields:
            changed = replace(changed, display_name=check_text("display_name", wanted.display_name, 1, 200))
        if ProjectField.DESCRIPTION in fields:
            changed = replace(changed, description=check_text("description", wanted.description, 0, 10_000))
        if ProjectField.WORKING_RESOLUTION_NM in fields:
            changed = replace(changed, working_resolution_nm=check_resolution(wanted.working_resolution_nm))
        if ProjectField.CLASSES in fields:
            taken = self.class_values | set(self.retired_values)
            classes = complete_classes(wanted.classes, known=self.class_values, taken=taken)
            gone = self.class_values - {label.value for label in classes}
            if gone & used_values:
                raise FailedPrecondition(
                    "CLASS_IN_USE",
                    f"class values {sorted(gone & used_values)} have annotations and cannot be removed; rename them",
                )
            retired = tuple(sorted(set(self.retired_values) | gone))
            changed = replace(changed, classes=classes, retired_values=retired)
        return replace(changed, version=self.version + 1, update_time_us=now_us)


@dataclass(frozen=True, slots=True)
class Member:
    """A user's membership."""

    project_id: str
    user: str
    role: Role
    create_time_us: int

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/members/{self.user}"


def make_etag(create_time_us: int, version: int) -> str:
    """An etag that a resource of the same name made later does not share."""
    return f"{create_time_us:x}-{version}"


def check_text(field: str, value: str, shortest: int, longest: int) -> str:
    """Return `value`; InvalidArgument BAD_TEXT when it is too short, too long or holds control characters."""
    if not shortest <= len(value) <= longest:
        raise InvalidArgument(
            "BAD_TEXT", f"{field} has {len(value)} characters; it needs {shortest} to {longest}"
        )
    if any(ord(character) < 32 and character not in "\n\t" for character in value):
        raise InvalidArgument("BAD_TEXT", f"{field} {value[:50]!r} holds control characters; remove them")
    return value


def check_resolution(value_nm: float) -> float:
    """Return the working resolution in nm, the default for 0; InvalidArgument BAD_RESOLUTION otherwise."""
    if value_nm == 0:
        return DEFAULT_RESOLUTION_NM
    if not 0.1 <= value_nm <= 100_000:
        raise InvalidArgument(
            "BAD_RESOLUTION", f"working_resolution_nm {value_nm} is not between 0.1 and 100000 nm"
        )
    return value_nm


def complete_classes(
    classes: Sequence[LabelClass],
    known: frozenset[int] = frozenset(),
    taken: frozenset[int] | set[int] = frozenset(),
) -> tuple[LabelClass, ...]:
    """Check classes and choose the values that are 0.

    Args:
        classes: As asked for.
        known: Values of the project's present classes.
        taken: Values that must not be chosen for a new class: the present ones and those of earlier classes.

    Raises:
        InvalidArgument: BAD_CLASSES, or CLASS_VALUE_USED for the value of a removed class.
    """
    if not 1 <= len(classes) <= LAST_CLASS - FIRST_CLASS + 1:
        raise InvalidArgument("BAD_CLASSES", f"a project needs 1 to 254 classes, not {len(classes)}")
    given = {label.value for label in classes if label.value}
    if given & (set(taken) - known):
        raise InvalidArgument(
            "CLASS_VALUE_USED",
            f"class values {sorted(given & (set(taken) - known))} belonged to removed classes",
        )
    free = iter(
        value for value in range(FIRST_CLASS, LAST_CLASS + 1) if value not in given and value not in taken
    )
    complete = []
    for label in classes:
        value = label.value or next(free, 0)
        if not FIRST_CLASS <= value <= LAST_CLASS:
            raise InvalidArgument(
                "BAD_CLASSES",
                f"class value {value} is not in 2..255 (0 is 'not annotated', 1 'none of the classes')",
            )
        if not 0 <= label.color_rgb <= 0xFFFFFF:
            raise InvalidArgument("BAD_CLASSES", f"color_rgb {label.color_rgb:#x} is not in 0..0xFFFFFF")
        name = check_text("class display_name", label.display_name, 1, 100)
        color = label.color_rgb or _PALETTE[(value - FIRST_CLASS) % len(_PALETTE)]
        complete.append(LabelClass(value, name, color))
    for what in ("value", "display_name"):
        if len({getattr(label, what) for label in complete}) < len(complete):
            raise InvalidArgument(
                "BAD_CLASSES", f"two classes have the same {what}; each needs one of its own"
            )
    return tuple(complete)

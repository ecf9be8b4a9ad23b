"""What the generated smart-home reports tell and what is asked about them, as data."""

from __future__ import annotations

import dataclasses

__all__ = ["ASKS", "KINDS", "VALUES", "Ask", "Kind"]

VALUES = {
    "person": ("Maria", "Tom", "Anna", "David", "Lena", "Paul", "Sofia", "Omar", "Julia", "Ben", "Nina", "Carlos"),
    "door": ("front door", "back door", "garage door", "balcony door", "cellar door", "garden gate"),
    "room": ("kitchen", "bedroom", "living room", "hallway", "bathroom", "office", "attic", "guest room"),
    "device": ("lamp", "heater", "fan", "television", "radio", "coffee machine", "oven", "air purifier"),
    "visitor": ("a courier", "a black cat", "the postman", "a delivery van", "the neighbour", "a fox", "two children"),
    "temperature": ("17 degrees", "18 degrees", "19 degrees", "20 degrees", "21 degrees", "22 degrees", "23 degrees"),
}
"""Field -> its values. A time of day is drawn for each event."""

EVENT_FRAMES = ("At {time} {event}.", "{time}: {event}.", "{Event} at {time}.")
"""How an event is told with its time."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of event.

    Args:
      name: of the kind.
      fields: whose values an event has, besides its time.
      tellings: sentences without time.
    """

    name: str
    fields: tuple[str, ...]
    tellings: tuple[str, ...]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("door", ("person", "door"), ("{person} opened the {door}", "the {door} was opened by {person}")),
        Kind(
            "on",
            ("person", "device", "room"),
            (
                "{person} switched on the {device} in the {room}",
                "the {device} in the {room} was switched on by {person}",
            ),
        ),
        Kind(
            "off",
            ("person", "device", "room"),
            (
                "{person} switched off the {device} in the {room}",
                "the {device} in the {room} was switched off by {person}",
            ),
        ),
        Kind(
            "motion",
            ("room",),
            ("the motion sensor in the {room} noticed movement", "movement was noticed in the {room}"),
        ),
        Kind(
            "camera",
            ("door", "visitor"),
            ("the camera at the {door} saw {visitor}", "{visitor} was seen by the camera at the {door}"),
        ),
        Kind(
            "thermostat",
            ("person", "room", "temperature"),
            (
                "{person} set the thermostat in the {room} to {temperature}",
                "the thermostat in the {room} was set to {temperature} by {person}",
            ),
        ),
    )
}

QUESTION_FRAMES = {
    "person": ("Who {}?", "Which person {}?", "Who was it that {}?", "Name everyone who {}."),
    "time": ("When was it that {}?", "At what time was it that {}?", "Tell me when {}.", "Say at which times {}."),
    "door": ("Which door {}?", "Which doors {}?", "What door {}?", "List the doors: which {}?"),
    "room": ("Where was it that {}?", "In which room was it that {}?", "Tell me where {}.", "Say in which rooms {}."),
    "device": ("Which device {}?", "Which devices {}?", "What device {}?", "List the devices: which {}?"),
    "visitor": ("Who or what {}?", "Which visitor {}?", "Which visitors {}?", "List all that {}."),
    "temperature": (
        "To how many degrees was it that {}?",
        "To what temperature was it that {}?",
        "Tell me to what temperature {}.",
        "Say to how many degrees {}.",
    ),
}
"""Asked field -> sentences around a predicate."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """A kind of question.

    Args:
      kind: of the events that answer it.
      asked: field, or `time`, whose values are the answers.
      given: fields whose values the question states.
      predicates: its wordings inside a frame.
    """

    kind: str
    asked: str
    given: tuple[str, ...]
    predicates: tuple[str, ...]


def _switching(kind: str) -> tuple[Ask, ...]:
    """What is asked about switching on or off."""
    return (
        Ask(kind, "person", ("device",), (f"switched {kind} the {{device}}", f"turned the {{device}} {kind}")),
        Ask(
            kind,
            "person",
            ("room",),
            (f"switched something {kind} in the {{room}}", f"turned a device {kind} in the {{room}}"),
        ),
        Ask(
            kind,
            "device",
            ("person",),
            (f"was switched {kind} by {{person}}", f"was turned {kind} by {{person}}"),
        ),
        Ask(
            kind,
            "device",
            ("room",),
            (f"in the {{room}} was switched {kind}", f"in the {{room}} was turned {kind}"),
        ),
        Ask(kind, "room", ("device",), (f"the {{device}} was switched {kind}", f"the {{device}} was turned {kind}")),
        Ask(kind, "time", ("device",), (f"the {{device}} was switched {kind}", f"the {{device}} was turned {kind}")),
    )


ASKS = (
    Ask("door", "person", ("door",), ("opened the {door}", "used the {door}")),
    Ask("door", "time", ("door",), ("the {door} was opened", "the {door} was used")),
    Ask("door", "time", ("person", "door"), ("{person} opened the {door}", "{person} used the {door}")),
    Ask("door", "door", ("person",), ("was opened by {person}", "was used by {person}")),
    *_switching("on"),
    *_switching("off"),
    Ask("motion", "room", (), ("movement was noticed", "a motion sensor noticed something")),
    Ask("motion", "time", ("room",), ("movement was noticed in the {room}", "something moved in the {room}")),
    Ask("camera", "visitor", ("door",), ("came to the {door}", "was seen at the {door}")),
    Ask("camera", "door", ("visitor",), ("was visited by {visitor}", "has a camera that saw {visitor}")),
    Ask("camera", "time", ("visitor",), ("{visitor} was seen", "{visitor} came")),
    Ask("thermostat", "room", ("person",), ("{person} set the thermostat", "{person} chose a temperature")),
    Ask(
        "thermostat",
        "temperature",
        ("room",),
        ("the thermostat in the {room} was set", "somebody set the {room} thermostat"),
    ),
    Ask("thermostat", "person", ("room",), ("set the thermostat in the {room}", "set the {room} temperature")),
)

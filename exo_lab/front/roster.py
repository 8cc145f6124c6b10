"""Names and marks of devices by id: what every view needs to speak of them. Pure.

A plan or an answer knows device ids only; names and "emulated" come from the nodes that are known now. An id that
nobody knows any more is shown by its beginning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from exo_lab.front.palette import Mark, assign
from exo_lab.front.text import clean, clean_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exo_lab.core.device import Device

ID_CHARACTERS = 8


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One device as people see it. Its texts are harmless: they may come from a peer."""

    name: str
    mark: Mark
    emulated: str = ""

    @property
    def label(self) -> str:
        """Such as "2 kernel-2"."""
        return f"{self.mark.number} {self.name}"


class Roster:
    """Entries by device id.

    Args:
        devices: those that are known, in any order.
        also: ids that must have an entry whether they are known or not.
    """

    def __init__(self, devices: Iterable[Device], also: Iterable[str] = ()) -> None:
        known = {device.id: device for device in devices}
        names = {id_: clean_name(device.name) for id_, device in known.items()}
        marks = assign(names.items())
        for id_ in also:
            if id_ not in known:
                names.setdefault(id_, clean_name(id_[:ID_CHARACTERS]))
                marks.setdefault(id_, Mark(len(marks)))
        self._entries = {
            id_: Entry(name=name, mark=marks[id_], emulated=clean(known[id_].emulated) if id_ in known else "")
            for id_, name in names.items()
        }

    def __getitem__(self, device_id: str) -> Entry:
        """The entry of a device that was given or listed in `also`."""
        return self._entries[device_id]

    def named(self, text: str) -> str:
        """The text with the ids of known devices replaced by their names: errors of far nodes speak of ids."""
        return _ID.sub(lambda match: self._entries[match[0]].name if match[0] in self._entries else match[0], text)


_ID = re.compile(r"\b[0-9a-f]{12}\b")

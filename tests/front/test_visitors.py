"""Commands of a shell are no part of the cluster that they look at; who holds layers always is."""

from __future__ import annotations

from exo_lab.front.visitors import residents, visitor_name, visitors
from tests.front import scenes


def test_a_command_of_a_shell_is_told_by_its_name_and_only_without_layers():
    command, other = scenes.device(8, visitor_name(4711)), scenes.device(9, "shell-like")
    assert visitors((command, other)) == {command.id}
    holding = scenes.device(1, "shell-1")
    loaded = scenes.loaded((holding, *scenes.devices()[1:]))
    assert visitors((holding, command), [loaded]) == {command.id}


def test_residents_keep_their_order():
    members = (*scenes.devices(2), scenes.device(8, "shell-8"))
    assert [node.device.name for node in residents(scenes.nodes(members))] == ["laptop", "kernel-1", "kernel-2"]

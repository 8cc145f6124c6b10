"""What a container may use counts as what the machine has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.telemetry.cgroups import Limits, limits
from tests.telemetry.machines import GIB, MOUNTS_V2, container_v1, container_v2, here


def test_version_two_limits_memory_and_cpus_and_counts_caches_as_free():
    # 4 GiB less 1 GiB used, of which 256 MiB are file cache that can go
    assert limits(container_v2().get) == Limits(
        memory_bytes=4 * GIB, memory_available_bytes=3 * GIB + GIB // 4, cores=1.5
    )


def test_version_one_limits_them_too_though_proc_shows_the_paths_of_the_host():
    assert limits(container_v1().get) == Limits(memory_bytes=2 * GIB, memory_available_bytes=GIB + GIB // 2, cores=3.0)


def test_max_and_minus_one_and_huge_numbers_are_no_limits():
    assert limits(container_v2(limit="max", cpu="max 100000").get) == Limits()
    assert limits(here().files.get) == Limits()
    assert limits({}.get) == Limits()


def test_the_tightest_of_nested_groups_counts():
    slices = "/sys/fs/cgroup/user.slice"
    files = {
        "/proc/self/cgroup": "0::/user.slice/app.scope\n",
        "/proc/self/mountinfo": MOUNTS_V2,
        f"{slices}/app.scope/memory.max": "max\n",
        f"{slices}/app.scope/cpu.max": "400000 100000\n",
        f"{slices}/memory.max": f"{8 * GIB}\n",
        f"{slices}/memory.current": f"{7 * GIB}\n",
        f"{slices}/cpu.max": "200000 100000\n",
    }
    assert limits(files.get) == Limits(memory_bytes=8 * GIB, memory_available_bytes=GIB, cores=2.0)


def test_more_used_than_allowed_leaves_nothing_and_not_less():
    assert limits(container_v2(used=str(9 * GIB)).get).memory_available_bytes == 0


def test_a_group_outside_of_what_is_mounted_is_read_at_the_mount():
    files = container_v2()
    files["/proc/self/cgroup"] = "0::/../../elsewhere\n"
    assert limits(files.get).memory_bytes == 4 * GIB


def test_a_mount_point_with_a_blank_in_its_name_is_found():
    files = {name.replace("/sys/fs/cgroup", "/my groups"): text for name, text in container_v2().items()}
    files["/proc/self/mountinfo"] = MOUNTS_V2.replace("/sys/fs/cgroup", r"/my\040groups")
    assert limits(files.get).memory_bytes == 4 * GIB


@given(st.dictionaries(st.sampled_from(sorted(container_v2() | container_v1())), st.text(max_size=80)))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_the_files_gives_limits_and_no_error(files):
    found = limits((container_v2() | files).get)
    assert found.memory_available_bytes is None or 0 <= found.memory_available_bytes <= 1 << 60

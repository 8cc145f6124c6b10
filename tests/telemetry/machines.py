"""Stand-ins for machines: what their operating systems would say, as text.

`here` was recorded on the machine that this was written on. The others follow the formats of the operating systems and
drivers; nobody ran this code on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exo_lab.telemetry.nvidia import GpuReading

GIB = 1 << 30
MOUNTS_V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
CUDA_TORCH = "__version__ = '2.9.0'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
ROCM_TORCH = "__version__ = '2.9.0+rocm6.4'\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482'\n"
CPU_TORCH = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"


@dataclass
class FakeMachine:
    """See `exo_lab.telemetry.machine.Machine`."""

    system: str = "Linux"
    architecture: str = "x86_64"
    host: str = "box"
    files: dict[str, str] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    memories: tuple[int, int] = (16 * GIB, 10 * GIB)
    cpus: int = 8
    variables: dict[str, str] = field(default_factory=dict)
    torch: str | None = CPU_TORCH
    readings: tuple[GpuReading, ...] = ()

    def text(self, path):
        return self.files.get(path)

    def sysctl(self, name):
        return self.sysctls.get(name)

    def registry(self, key, value):
        return self.keys.get((key, value))

    def memory(self):
        return self.memories

    def cores(self):
        return self.cpus

    def variable(self, name):
        return self.variables.get(name)

    def module_text(self, module, file):
        assert (module, file) == ("torch", "version.py")
        return self.torch

    def gpus(self):
        return self.readings

    def gpu(self, index):
        return next((one for one in self.readings if one.index == index), None)


def here(**changes) -> FakeMachine:
    """The virtual machine that this was written on: control groups of version 1, no firmware tables."""
    files = {
        "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n"
        "model name\t: AMD EPYC\nstepping\t: 1\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n",
        "/proc/self/cgroup": "9:name=systemd:/\n8:pids:/\n5:devices:/\n4:memory:/process_api/d20cffe7\n3:cpuset:/\n"
        "2:cpuacct:/\n1:cpu:/\n0::/\n",
        "/proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    return FakeMachine(**{"files": files, "memories": (25_276_510_208, 24_642_297_856), "cpus": 2, **changes})


def laptop(**changes) -> FakeMachine:
    """Linux on a laptop of a maker who keeps the name that people know in the version."""
    files = {
        "/proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD Ryzen 7 7840U w/ Radeon 780M Graphics\n",
        "/sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "/sys/class/dmi/id/product_name": "21K5CTO1WW\n",
        "/sys/class/dmi/id/product_version": "ThinkPad P16s Gen 2\n",
    }
    return FakeMachine(**{"files": files, **changes})


def macbook(chip: str = "Apple M3 Max", **changes) -> FakeMachine:
    fields = {
        "system": "Darwin",
        "architecture": "arm64",
        "host": "mac.local",
        "sysctls": {"machdep.cpu.brand_string": chip, "hw.model": "Mac15,9"},
        "memories": (64 * GIB, 40 * GIB),
        "cpus": 16,
    }
    return FakeMachine(**{**fields, **changes})


def windows_desktop(**changes) -> FakeMachine:
    system = r"HARDWARE\DESCRIPTION\System"
    fields = {
        "system": "Windows",
        "architecture": "AMD64",
        "keys": {
            (rf"{system}\CentralProcessor\0", "ProcessorNameString"): "13th Gen Intel(R) Core(TM) i9-13900K   ",
            (rf"{system}\BIOS", "SystemManufacturer"): "ASUS",
            (rf"{system}\BIOS", "SystemProductName"): "System Product Name",
            (rf"{system}\BIOS", "SystemVersion"): "System Version",
        },
        "readings": (RTX_4090,),
        "cpus": 32,
    }
    return FakeMachine(**{**fields, **changes})


RTX_3060 = GpuReading(
    name="NVIDIA GeForce RTX 3060", uuid="GPU-30aaaaaa", memory_bytes=12_288 << 20, memory_free_bytes=12_000 << 20
)
RTX_4090 = GpuReading(
    name="NVIDIA GeForce RTX 4090",
    index=1,
    uuid="GPU-40bbbbbb",
    memory_bytes=24_564 << 20,
    memory_free_bytes=20_000 << 20,
)


def container_v2(limit: str = "4294967296", used: str = "1073741824", cpu: str = "150000 100000", **files) -> dict:
    """Files of a container under control groups of version 2, in a namespace of its own."""
    return {
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": MOUNTS_V2,
        "/sys/fs/cgroup/memory.max": f"{limit}\n",
        "/sys/fs/cgroup/memory.current": f"{used}\n",
        "/sys/fs/cgroup/memory.stat": "anon 536870912\nfile 536870912\ninactive_file 268435456\n",
        "/sys/fs/cgroup/cpu.max": f"{cpu}\n",
        **files,
    }


def container_v1() -> dict:
    """Files of a container under version 1 whose /proc still shows the host's paths, as Docker's does."""
    group = "/docker/0123456789abcdef"
    return {
        "/proc/self/cgroup": f"11:memory:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n",
        "/proc/self/mountinfo": f"640 637 0:31 {group} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
        f"641 637 0:32 {group} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1610612736\n",
        "/sys/fs/cgroup/memory/memory.stat": "cache 1073741824\ninactive_file 5\ntotal_inactive_file 1073741824\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }

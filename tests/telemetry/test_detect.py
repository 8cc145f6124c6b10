"""What machines are, from what their operating systems say of them."""

from __future__ import annotations

import math

import pytest

from exo_lab.core.device import Flops
from exo_lab.telemetry.detect import cpu_limit, detect, free_memory
from tests.telemetry.machines import (
    CUDA_TORCH,
    GIB,
    ROCM_TORCH,
    RTX_3060,
    RTX_4090,
    FakeMachine,
    container_v1,
    container_v2,
    here,
    laptop,
    macbook,
    windows_desktop,
)

NEOVERSE = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n"
RASPBERRY = NEOVERSE.replace("0xd0c", "0xd08") + "\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"


def seen(machine: FakeMachine, **options):
    return detect("node", device_id="0123456789ab", machine=machine, **options)


def test_the_machine_that_this_was_written_on():
    device = seen(here())
    assert (device.chip, device.model, device.cores, device.computes_on) == ("AMD EPYC", "", 2, "cpu")
    assert (device.memory_bytes, device.memory_available_bytes) == (25_276_510_208, 24_642_297_856)
    assert (device.gpus, device.flops, device.speed_origin) == ((), Flops(), "")


def test_this_very_machine_has_memory_and_cores_and_a_chip():
    device = detect(device_id="0123456789ab")
    assert 0 < device.memory_available_bytes <= device.memory_bytes
    assert device.cores >= 1
    assert device.chip
    assert device.name
    assert 0 < free_memory(device)() <= device.memory_bytes


def test_a_laptop_is_called_what_people_call_it_and_its_graphics_are_not_its_processor():
    device = seen(laptop())
    assert device.model == "LENOVO ThinkPad P16s Gen 2"
    assert device.chip == "AMD Ryzen 7 7840U w/ Radeon 780M Graphics"
    assert device.flops == Flops()
    assert device.speed_origin == ""


@pytest.mark.parametrize(("cpuinfo", "chip"), [(NEOVERSE, "Neoverse-N1"), (RASPBERRY, "Cortex-A72"), ("", "aarch64")])
def test_arm_boards_have_names_by_number(cpuinfo, chip):
    files = {"/proc/cpuinfo": cpuinfo, "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
    device = seen(FakeMachine(architecture="aarch64", files=files))
    assert (device.chip, device.model) == (chip, "Raspberry Pi 4 Model B Rev 1.4")


def test_an_apple_machine_has_its_chips_published_figures_and_says_whose_they_are():
    device = seen(macbook())
    assert (device.chip, device.model, device.computes_on) == ("Apple M3 Max", "Mac15,9", "cpu")
    assert device.flops == Flops(fp32=14.2, fp16=28.4, int8=56.8)
    assert device.memory_bandwidth_bytes_per_s == 409.6e9
    assert device.speed_origin == "chip table"
    assert "GPU" in device.speed_note
    (gpu,) = device.gpus
    assert (gpu.name, gpu.place, gpu.memory_bytes) == ("Apple M3 Max GPU", "", 64 * GIB)


def test_an_intel_mac_is_no_apple_chip():
    device = seen(macbook("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", architecture="x86_64"))
    assert (device.flops, device.gpus, device.speed_origin) == (Flops(), (), "")


def test_windows_names_its_processor_and_placeholders_of_the_maker_are_no_model():
    device = seen(windows_desktop())
    assert device.chip == "13th Gen Intel(R) Core(TM) i9-13900K"
    assert device.model == "ASUS"


def test_with_a_torch_that_cannot_use_it_a_gpu_is_listed_and_not_counted():
    device = seen(windows_desktop())
    assert (device.computes_on, device.memory_bytes, device.flops) == ("cpu", 16 * GIB, Flops())
    (gpu,) = device.gpus
    assert (gpu.name, gpu.flops.fp32, gpu.memory_bytes) == ("NVIDIA GeForce RTX 4090", 82.58, 24_564 << 20)


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_with_a_torch_that_can_the_device_is_the_gpu(engine):
    device = seen(windows_desktop(torch=CUDA_TORCH), engine=engine)
    assert (device.computes_on, device.chip) == ("cuda:0", "NVIDIA GeForce RTX 4090")
    assert device.flops == Flops(fp32=82.58, fp16=165.16, int8=330.32)
    assert (device.memory_bytes, device.memory_available_bytes) == (24_564 << 20, 20_000 << 20)
    assert device.speed_origin == "chip table"


def test_nodes_name_the_memory_that_they_share_and_nobody_elses():
    boot = {"/proc/sys/kernel/random/boot_id": "7f0c\n"}
    plain = seen(here(files=here().files | boot))
    assert plain.memory_id == seen(here(files=here().files | boot)).memory_id == "7f0c"
    assert seen(here(files=here().files | boot), memory_bytes=10**9).memory_id == ""  # emulated: its own
    limited = [seen(FakeMachine(host=host, files=container_v2() | boot)).memory_id for host in ("a", "b")]
    assert len({*limited, plain.memory_id}) == 3
    both = {"torch": CUDA_TORCH, "readings": (RTX_3060, RTX_4090)}
    gpus = [seen(windows_desktop(**both, variables={"CUDA_VISIBLE_DEVICES": one})).memory_id for one in ("0", "1", "0")]
    assert gpus[0] == gpus[2] != gpus[1]
    assert seen(windows_desktop(**both), engine="numpy").memory_id not in gpus


def test_the_engine_that_was_chosen_is_the_first_of_a_device():
    assert seen(here()).engines == ("torch", "numpy")
    assert seen(here(), engine="numpy").engines == ("numpy", "torch")


def test_the_numpy_engine_computes_on_the_processor_whatever_torch_could():
    assert seen(windows_desktop(torch=CUDA_TORCH), engine="numpy").computes_on == "cpu"
    assert seen(windows_desktop(torch=None)).computes_on == "cpu"


def test_every_gpu_is_listed_and_the_fastest_is_cudas_first():
    device = seen(windows_desktop(torch=CUDA_TORCH, readings=(RTX_3060, RTX_4090, RTX_3060)))
    assert [(gpu.place, gpu.name[-4:]) for gpu in device.gpus] == [
        ("cuda:0", "4090"),
        ("cuda:1", "3060"),
        ("cuda:2", "3060"),
    ]
    assert device.chip == "NVIDIA GeForce RTX 4090"


def test_cuda_counts_as_the_bus_does_if_it_is_told_to():
    variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    device = seen(windows_desktop(torch=CUDA_TORCH, readings=(RTX_3060, RTX_4090), variables=variables))
    assert device.chip == "NVIDIA GeForce RTX 3060"
    assert device.memory_bandwidth_bytes_per_s == 360e9  # known by its memory: there are two of that name


@pytest.mark.parametrize(
    ("shown", "places"),
    [
        ("1", {"3060": "cuda:0", "4090": ""}),
        ("GPU-30", {"3060": "cuda:0", "4090": ""}),
        ("1,0", {"3060": "cuda:0", "4090": "cuda:1"}),
        ("0,7,1", {"4090": "cuda:0", "3060": ""}),  # what comes after one that is not there does not count
        ("", {"3060": "", "4090": ""}),
        ("-1", {"3060": "", "4090": ""}),
        ("0,0", {"3060": "", "4090": ""}),
    ],
)
def test_gpus_that_cuda_hides_are_listed_without_a_place(shown, places):
    machine = windows_desktop(
        torch=CUDA_TORCH, readings=(RTX_3060, RTX_4090), variables={"CUDA_VISIBLE_DEVICES": shown}
    )
    device = seen(machine)
    assert {gpu.name[-4:]: gpu.place for gpu in device.gpus} == places
    assert device.computes_on == ("cuda:0" if any(places.values()) else "cpu")


def test_free_memory_is_asked_of_the_gpu_that_computes():
    machine = windows_desktop(torch=CUDA_TORCH, readings=(RTX_3060, RTX_4090))
    free = free_memory(seen(machine), machine)
    assert free() == RTX_4090.memory_free_bytes
    machine.readings = (RTX_3060,)  # it fell off the bus
    assert free() == 0


def test_free_memory_is_asked_of_the_machine_otherwise():
    machine = here()
    free = free_memory(seen(machine), machine)
    machine.memories = (machine.memories[0], 12345)
    assert free() == 12345


def test_a_gpu_that_shares_the_main_memory_has_that():
    spark = RTX_4090.__class__(name="NVIDIA GB10")
    machine = FakeMachine(torch=CUDA_TORCH, readings=(spark,), memories=(119 * GIB, 100 * GIB))
    device = seen(machine)
    assert (device.chip, device.memory_bytes, device.flops.fp32) == ("NVIDIA GB10", 119 * GIB, 29.71)
    assert free_memory(device, machine)() == 100 * GIB


def test_a_torch_for_rocm_without_nvidia_gpus_is_no_gpu_that_we_can_see():
    assert seen(FakeMachine(torch=ROCM_TORCH)).computes_on == "cpu"


@pytest.mark.parametrize(
    ("files", "total", "available", "cores"),
    [(container_v2(), 4 * GIB, 3.25 * GIB, 2), (container_v1(), 2 * GIB, 1.5 * GIB, 3)],
)
def test_a_containers_limits_are_the_devices(files, total, available, cores):
    device = seen(FakeMachine(files=files))
    assert (device.memory_bytes, device.memory_available_bytes, device.cores) == (total, available, cores)
    assert cpu_limit(FakeMachine(files=files)) == cores


def test_a_limit_above_what_the_host_has_changes_nothing():
    files = container_v2(limit=str(64 * GIB), used="0", cpu="3200000 100000")
    device = seen(FakeMachine(files=files))
    assert (device.memory_bytes, device.memory_available_bytes, device.cores) == (16 * GIB, 10 * GIB, 8)
    assert cpu_limit(FakeMachine(files=files)) == 0


def test_half_a_cpu_is_one_core():
    assert seen(FakeMachine(files=container_v2(cpu="50000 100000"))).cores == 1


def test_an_emulated_device_says_so_and_keeps_the_speed_of_the_machine_that_emulates_it():
    device = seen(macbook(), memory_bytes=96_000_000, slowdown=2.0)
    assert device.emulated == "memory 96 MB, 2x slower"
    assert (device.memory_bytes, device.memory_available_bytes, device.slowdown) == (96_000_000, 96_000_000, 2.0)
    assert device.flops.fp32 == 14.2  # planning applies the slowdown
    assert math.isfinite(device.memory_bandwidth_bytes_per_s)


def test_an_operating_system_that_we_do_not_know_has_an_architecture():
    device = seen(FakeMachine(system="FreeBSD", architecture="amd64"))
    assert (device.chip, device.model, device.memory_bytes) == ("amd64", "", 16 * GIB)


def test_names_from_firmware_are_made_safe_to_show():
    files = {"/sys/class/dmi/id/sys_vendor": "Evil\x1b[31m\n", "/sys/class/dmi/id/product_name": "x" * 500}
    model = seen(FakeMachine(files=files)).model
    assert model.isprintable()
    assert len(model) <= 100

"""GPUs that a run can be planned for, by their makers' data sheets: nothing here was measured by this project.

Matrix throughput is dense (data sheets also print twice that, with sparsity). Links are counted in one direction, half
of what data sheets print. Memory is what a program sees, a little less than the name says.
"""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class Device:
    """One GPU, or one CPU worker, and its links."""

    name: str
    memory_gib: float
    tflops: float  # bf16 and fp16 matrix products, dense, summed in float32
    tflops_fp32: float  # as torch multiplies float32 by default: no TF32
    memory_gbps: float  # GB/s of its own memory
    link_gbps: float  # GB/s to the other GPUs of its node, each way
    host_gbps: float  # GB/s to the host's memory, each way (PCIe, about four fifths of its raw rate)
    source: str


PCIE4, PCIE5 = 25.0, 50.0

GPUS = {
    device.name: device
    for device in (
        Device(
            name="a10g",
            memory_gib=22.0,
            tflops=70.0,
            tflops_fp32=31.5,
            memory_gbps=600.0,
            link_gbps=PCIE4,
            host_gbps=PCIE4,
            source="AWS EC2 G5 product page; NVIDIA A10G data sheet",
        ),
        Device(
            name="rtx4090",
            memory_gib=23.5,
            tflops=165.2,
            tflops_fp32=82.6,
            memory_gbps=1008.0,
            link_gbps=PCIE4,
            host_gbps=PCIE4,
            source="NVIDIA Ada architecture white paper, table of the GeForce RTX 4090",
        ),
        Device(
            name="l40s",
            memory_gib=44.5,
            tflops=362.0,
            tflops_fp32=91.6,
            memory_gbps=864.0,
            link_gbps=PCIE4,
            host_gbps=PCIE4,
            source="NVIDIA L40S data sheet",
        ),
        Device(
            name="a100-40gb",
            memory_gib=39.4,
            tflops=312.0,
            tflops_fp32=19.5,
            memory_gbps=1555.0,
            link_gbps=300.0,
            host_gbps=PCIE4,
            source="NVIDIA A100 data sheet, SXM",
        ),
        Device(
            name="a100-80gb",
            memory_gib=79.2,
            tflops=312.0,
            tflops_fp32=19.5,
            memory_gbps=2039.0,
            link_gbps=300.0,
            host_gbps=PCIE4,
            source="NVIDIA A100 data sheet, SXM",
        ),
        Device(
            name="h100-80gb",
            memory_gib=79.1,
            tflops=989.0,
            tflops_fp32=67.0,
            memory_gbps=3350.0,
            link_gbps=450.0,
            host_gbps=PCIE5,
            source="NVIDIA H100 data sheet, SXM",
        ),
        Device(
            name="h200-141gb",
            memory_gib=139.7,
            tflops=989.0,
            tflops_fp32=67.0,
            memory_gbps=4800.0,
            link_gbps=450.0,
            host_gbps=PCIE5,
            source="NVIDIA H200 data sheet, SXM",
        ),
        Device(
            name="b200",
            memory_gib=178.0,
            tflops=2250.0,
            tflops_fp32=75.0,
            memory_gbps=8000.0,
            link_gbps=900.0,
            host_gbps=PCIE5,
            source="NVIDIA HGX B200 data sheet",
        ),
        Device(
            name="mi300x",
            memory_gib=191.5,
            tflops=1307.0,
            tflops_fp32=163.4,
            memory_gbps=5300.0,
            link_gbps=448.0,
            host_gbps=PCIE5,
            source="AMD Instinct MI300X data sheet",
        ),
    )
}


def cpu_worker(memory_gib: float) -> Device:
    """A worker on a CPU, for its memory. Its speed is that of one core of this project's benchmarks (45 GFLOP/s in
    float32 products), a rough one for any other."""
    return Device(
        name="cpu",
        memory_gib=memory_gib,
        tflops=0.045,
        tflops_fp32=0.045,
        memory_gbps=10.0,
        link_gbps=2.0,
        host_gbps=10.0,
        source="one core of a Xeon server",
    )

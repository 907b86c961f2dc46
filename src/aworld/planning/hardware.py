"""What a GPU and its node can do: `configs/hardware/`, one file per kind."""

from dataclasses import dataclass, fields
from typing import Any

import yaml

from aworld.config import Site, places
from aworld.errors import InputError


@dataclass(frozen=True)
class Hardware:
    """One kind of GPU. Bytes are decimal: 1 GB = 10⁹ bytes.

    Attributes:
        memory_gb: of a GPU.
        teraflops: peak of a GPU, dense bf16.
        hbm_gb_per_second: of a GPU's memory.
        nvlink_gb_per_second: between the GPUs of a node, in one direction.
        network_gb_per_second: of a node, in one direction.
        host_gb_per_second: between a GPU and the host's memory, in one direction.
        file_system_gb_per_second: that one node reads or writes on the shared file system.
        compute_share: of the peak that a training step without recomputation reaches (MFU), and prefill.
        decode_share: of the memory bandwidth that sampling reaches.
    """

    name: str
    memory_gb: float
    teraflops: float
    hbm_gb_per_second: float
    nvlink_gb_per_second: float
    network_gb_per_second: float
    host_gb_per_second: float
    file_system_gb_per_second: float
    compute_share: float
    decode_share: float

    @property
    def memory(self) -> float:
        """Bytes of a GPU."""
        return self.memory_gb * 1e9

    @property
    def flops(self) -> float:
        """FLOP/s that a GPU reaches in a training step."""
        return self.teraflops * 1e12 * self.compute_share


FIGURES = tuple(field.name for field in fields(Hardware) if field.name != "name")


def load(site: Site) -> Hardware | None:
    """The site's hardware, with its own figures put in; None: the site names none, as one without GPUs.

    Raises:
        InputError: there is no such hardware, or a figure is missing, unknown or not above 0.
    """
    if not site.hardware:
        return None
    file = places.find("hardware", site.hardware)
    values: dict[str, Any] = (yaml.safe_load(file.read_text()) or {}) | site.hardware_figures
    if unknown := sorted(values.keys() - {"name", *FIGURES}):
        raise InputError(f"site.hardware={site.hardware}: no figure '{unknown[0]}'; valid: {', '.join(FIGURES)}")
    for name in FIGURES:
        if not isinstance(values.get(name), int | float) or not values[name] > 0:
            raise InputError(f"site.hardware={site.hardware}: {name} has to be a number above 0; set it in {file}")
        if name.endswith("_share") and values[name] > 1:
            raise InputError(f"site.hardware={site.hardware}: {name}={values[name]:g} is a share, so at most 1")
    return Hardware(values.get("name", file.stem), **{name: float(values[name]) for name in FIGURES})

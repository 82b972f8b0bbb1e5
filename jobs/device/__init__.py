"""What a controllable device runs: it follows setpoints as leases, and fails safe by itself.

All but `kafka_link` need the standard library only; that one needs kafka-python. Nothing here imports another package
of ours, so that the folder can be copied onto a device.
"""

from jobs.device.client import Device, DeviceClient, DeviceError
from jobs.device.keeper import Command, LeaseKeeper
from jobs.device.limitation import PowerLimitation
from jobs.device.options import AssetSpec, KeeperOptions
from jobs.device.setpoint import Now, Setpoint, SetpointError, parse

__all__ = [
    "AssetSpec",
    "Command",
    "Device",
    "DeviceClient",
    "DeviceError",
    "KeeperOptions",
    "LeaseKeeper",
    "Now",
    "PowerLimitation",
    "Setpoint",
    "SetpointError",
    "parse",
]

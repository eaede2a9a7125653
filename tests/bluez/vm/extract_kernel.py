"""Unpack a bzImage: QEMU boots the ELF file in it directly, by its PVH note."""

import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from subprocess import PIPE

SETUP_SECTORS, PAYLOAD = 0x1F1, 0x248  # Linux, Documentation/arch/x86/boot.rst


def unpacked(image: bytes) -> bytes:
    """Return the ELF kernel of a bzImage."""
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = ((image[SETUP_SECTORS] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x5d"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(payload[:-4])
    if payload.startswith(b"\x28\xb5\x2f\xfd"):  # Python 3.14 has its own module
        return subprocess.run(["zstd", "-dc"], input=payload[:-4], check=True, stdout=PIPE).stdout
    sys.exit(f"unknown compression of the kernel: {payload[:6].hex()}")


Path(sys.argv[2]).write_bytes(unpacked(Path(sys.argv[1]).read_bytes()))

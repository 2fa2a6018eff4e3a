"""Picture files made for the tests."""

import io
import struct

import numpy as np

RAMP = np.arange(48, dtype=np.uint8)[:, None] * 4 + np.arange(40, dtype=np.uint8)
DEEP = RAMP.astype(np.uint16) * 288  # reaches beyond 2**15: all 16 bits are in use


def encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def build_tiff(pixels, photometric, sample_format=1, order="<", bits=None):
    """One uncompressed strip with exactly these tags."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    depth = bits or 8 * pixels.dtype.itemsize
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: depth, 259: 1, 262: photometric, 273: None}
    tags |= {277: channels, 278: pixels.shape[0], 279: len(data), 339: sample_format}
    start = 8 + 2 + 12 * len(tags) + 4
    depths = struct.pack(f"{order}{channels}H", *[depth] * channels) if channels > 1 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags.items():
        if tag == 258 and depths:
            head += struct.pack(f"{order}HHII", tag, 3, channels, start)
        else:
            head += struct.pack(f"{order}HHII", tag, 4, 1, start + len(depths) if tag == 273 else value)
    return head + b"\0\0\0\0" + depths + data

"""DICOM files made for the tests."""

import io

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from xray_models.images import (
    read_image,
)

SECRET = "Doe^Jane"
RAMP = np.linspace(0, 4095, 48 * 40).reshape(48, 40).astype(np.uint16)  # 12 bits
SMALL = (RAMP // 16).astype(np.uint8)


def build(pixels=RAMP, bits=12, **elements):
    """A DICOM data set of these stored values; an element of value None is left out."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, uid.generate_uid()
    ds.PatientName = ds.PatientID = SECRET
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return ds


def write(ds, **options):
    file = io.BytesIO()
    options.setdefault("enforce_file_format", True)
    ds.save_as(file, **options)
    return file.getvalue()


def read(*arguments, **elements):
    return read_image(write(build(*arguments, **elements)))


def build_table(entries, first=0, bits=16):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])  # 0 means 65,536
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return [item]


def wrap(frame, ds, syntax):
    """The file of a data set whose pixels are this compressed frame."""
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    return write(ds)


def compress(syntax, pixels=RAMP, **elements):
    ds = build(pixels, **({"WindowCenter": 2048, "WindowWidth": 4096} | elements))
    coded = pixels.view(np.uint16) & 0x0FFF
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        predictor = 1 if syntax == uid.JPEGLosslessSV1 else 6
        frame = imagecodecs.jpeg8_encode(coded, lossless=True, predictor=predictor, bitspersample=12)
        return wrap(frame, ds, syntax)
    if syntax == uid.JPEGExtended12Bit:
        return wrap(imagecodecs.jpeg8_encode(coded, level=98, bitspersample=12), ds, syntax)
    if syntax == uid.JPEGLSLossless:
        return wrap(imagecodecs.jpegls_encode(coded), ds, syntax)
    ds.compress(syntax)
    return write(ds)


COMPRESSED = [
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
]


def build_jpeg(rows=48):
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, "JPEG", quality=95)
    return wrap(file.getvalue(), build(SMALL, bits=8, Rows=rows), uid.JPEGBaseline8Bit)

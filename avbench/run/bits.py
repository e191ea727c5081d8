"""Codes <-> bits: each in as many bits as its vocabulary needs, most significant bit first."""

import numpy as np

_CHUNK = 2**18  # codes unpacked to bits at a time (a multiple of 8, so that a chunk ends with a byte); bounds the memory


def bits_per_code(vocab: int) -> int:
    """Whole bits that hold a code in [0, vocab): ceil(log2 vocab), 0 for a vocab of 1."""
    return (vocab - 1).bit_length()


def pack(codes: np.ndarray, width: int) -> bytes:
    """`width` low bits of each code, most significant first."""
    flat, num_bytes = codes.ravel(), (width + 7) // 8
    packed = []
    for start in range(0, flat.size, _CHUNK):
        octets = flat[start : start + _CHUNK].astype(">i8").view(np.uint8).reshape(-1, 8)[:, 8 - num_bytes :]
        if width % 8:
            octets = np.packbits(np.unpackbits(octets, axis=1)[:, 8 * num_bytes - width :])
        packed.append(octets.tobytes())
    return b"".join(packed)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """The `count` codes of `width` bits that `pack` wrote: int64 (count,)."""
    codes, num_bytes = np.zeros(count, dtype=np.int64), (width + 7) // 8
    for start in range(0, count if width else 0, _CHUNK):
        stop = min(count, start + _CHUNK)
        octets = np.frombuffer(data, dtype=np.uint8)[start * width // 8 : (stop * width + 7) // 8]
        if width % 8:
            bits = np.zeros((stop - start, 8 * num_bytes), dtype=np.uint8)
            bits[:, 8 * num_bytes - width :] = np.unpackbits(octets, count=(stop - start) * width).reshape(-1, width)
            octets = np.packbits(bits, axis=1)
        for octet in octets.reshape(-1, num_bytes).T:
            codes[start:stop] = (codes[start:stop] << 8) | octet
    return codes

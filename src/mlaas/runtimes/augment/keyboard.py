"""Which keys lie beside which, on the US and on the Italian layout of QWERTY."""

_ROWS = ("qwertyuiopè", "asdfghjklòà", "zxcvbnm")
_OFFSET = (0.0, 0.25, 0.75)  # how far each row is shifted to the right, in keys


def _neighbours() -> dict[str, str]:
    keys = {key: (x + _OFFSET[y], y) for y, row in enumerate(_ROWS) for x, key in enumerate(row)}
    return {
        a: "".join(b for b, (bx, by) in keys.items() if a != b and abs(bx - ax) <= 1 and abs(by - ay) <= 1)
        for a, (ax, ay) in keys.items()
    }


NEIGHBOURS = _neighbours()
"""The keys that touch a letter's key, for lower-case letters."""
NEIGHBOURS |= {accented: NEIGHBOURS[plain] for accented, plain in zip("éìù", "èoà", strict=True)}

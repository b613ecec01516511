"""How stored numbers of a FITS image become physical values (FITS Standard 4.0, section 4.4.2.5)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header

__all__ = ["FitsScaling"]


@dataclass(frozen=True)
class FitsScaling:
    """BSCALE, BZERO and BLANK of an image."""

    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None
    """Stored integer that means a missing value."""

    @classmethod
    def of(cls, header: Header) -> "FitsScaling":
        """That of a header.

        Raises:
            ValueError: one of the cards is no number.
        """
        blank = header.get("BLANK") if header["BITPIX"] > 0 else None
        return cls(float(header.get("BSCALE", 1)), float(header.get("BZERO", 0)), blank)

    def values(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Physical values; nan where missing."""
        values = stored * np.float64(self.scale) + self.zero
        if self.blank is not None:
            values[stored == self.blank] = np.nan
        return values

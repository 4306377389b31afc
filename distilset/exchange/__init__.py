"""Sets in and out: peers' files to images and labels, our sets to what others read."""

from distilset.exchange.exporting import FORMATS, write_export
from distilset.exchange.importing import Imported, read_set
from distilset.exchange.sets import export_set, import_set
from distilset.exchange.spaces import SPACES

__all__ = [
    "FORMATS",
    "SPACES",
    "Imported",
    "export_set",
    "import_set",
    "read_set",
    "write_export",
]

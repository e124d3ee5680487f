"""All structures of INFN and their codes."""

from examples.affiliations.groups import GROUPS
from examples.affiliations.laboratories import LABORATORIES
from examples.affiliations.sections import SECTIONS

STRUCTURES = (*SECTIONS, *LABORATORIES, *GROUPS)
CODES = tuple(dict.fromkeys(structure.code for structure in STRUCTURES))

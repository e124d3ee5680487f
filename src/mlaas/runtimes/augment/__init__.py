"""Smart typos: training texts enlarged by changed copies, as a person or a bibliographic database would write them.

augment(texts, factor=30, seed=1)        the copies, and the row each was made from
augment_file(source, target, ...)        the same from file to file
python -m mlaas.runtimes.augment IN OUT  the same from the command line
"""

from mlaas.runtimes.augment.enlarge import augment
from mlaas.runtimes.augment.tables import Enlarged, augment_file

__all__ = ["Enlarged", "augment", "augment_file"]

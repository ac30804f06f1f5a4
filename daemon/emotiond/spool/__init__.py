"""Events between the timelines and Redis: on disk, bounded, counted, in order for each stream.

queues.py     the events that wait, stream by stream
database.py   the SQLite file that holds them
place.py      whose the file is
repair.py     what happens when that file is damaged
commit.py     what one transaction writes and removes
memory.py     what the spool knows without its disk
disk.py       the file's life: opened, failing and tried again, damaged and replaced
spool.py      the whole, as timelines, publisher and service see it
"""

from emotiond.spool.queues import Entry
from emotiond.spool.spool import Spool

__all__ = ["Entry", "Spool"]

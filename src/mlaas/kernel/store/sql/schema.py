"""The tables. `revisions` is the truth, an append-only log whose autoincremented id *is* the revision (the shape of kine,
github.com/k3s-io/kine); `resources` and `labels` are its index: one row for each resource that exists now.

Only portable column types are used, so that the same tables stand on PostgreSQL.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

VERSION = 2
"""Of this layout. A database of a newer layout is refused, an older one is migrated when it is opened."""

metadata = MetaData()

# SQLite autoincrements only a column of exactly the type INTEGER, which is 64 bits wide there.
Id = BigInteger().with_variant(Integer, "sqlite")

revisions = Table(
    "revisions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("tombstone", Boolean, nullable=False, default=False),
    Column("document", LargeBinary, nullable=False),  # JSON without meta.version, which is the id
    sqlite_autoincrement=True,  # an id is never given twice, also after compaction removed the last rows
)

resources = Table(
    "resources",
    metadata,
    Column("kind", String, primary_key=True),
    Column("project", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("uid", String, nullable=False, unique=True),
    Column("owner", String),  # uid
    Column("phase", String, nullable=False),
    Column("born", Id, nullable=False),  # revision of its creation: the order "created"
    Column("revision", Id, nullable=False, unique=True),
    Index("resources_by_birth", "kind", "born"),
    Index("resources_by_name", "name", "project", "kind"),
    Index("resources_by_owner", "owner"),
)

labels = Table(
    "labels",
    metadata,
    Column("uid", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
    Index("labels_by_value", "key", "value"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),  # "": nobody's
    Column("epoch", Id, nullable=False),
    Column("expires", Float, nullable=False),  # seconds since the epoch
)

points = Table(
    "points",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("owner", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("step", Id, nullable=False),
    Column("time", Float, nullable=False),
    Column("value", Float),  # NULL is NaN: SQLite stores it so
    Index("points_by_owner", "owner", "id"),
    Index("points_by_time", "time"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("owner", String, nullable=False),
    Column("project", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("message", String, nullable=False),
    Column("type", String, nullable=False),
    Column("count", Id, nullable=False),
    Column("first_seen", String, nullable=False),
    Column("last_seen", String, nullable=False),
    UniqueConstraint("owner", "reason", "message"),
    Index("events_by_project", "project", "id"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String, primary_key=True),  # SHA-256, hexadecimal
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("projects", LargeBinary),  # JSON list; NULL: all
    Column("created", String, nullable=False),
    Column("expires", Float),  # seconds since the epoch
    Column("workload", String),  # uid
    Column("inputs", LargeBinary, nullable=False),  # JSON list
    Column("service", String),  # since layout 2
    Column("lifetime", Float),  # seconds; since layout 2
)

ADDED = {2: (tokens.c.service, tokens.c.lifetime)}
"""Layout -> the nullable columns that it has and the one before it has not."""

facts = Table(
    "facts",
    metadata,
    Column("name", String, primary_key=True),  # "layout", "horizon"
    Column("value", Id, nullable=False),
)

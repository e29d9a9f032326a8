"""The tables of tokens and sign-ins: keys, what people have said yes to, and what waits for it."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from tidemill.store.columns import Instant, metadata

signing_key = Table(
    "signing_key",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("public", Text, nullable=False),  # members x and d of a JWK; d in an envelope of the key ring
    Column("private_sealed", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ends_at", Instant),  # none for the one that signs; else when the last token that it signed has ended
)

sign_in = Table(
    "sign_in",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("workspace", String(64), nullable=False),
    Column("client", String(64), nullable=False),
    Column("scope", Text, nullable=False),
    Column("refresh_digest", String(64), nullable=False),  # of the only refresh token that is good
    Column("created_at", Instant, nullable=False),
    Column("refreshed_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("sign_in_account", "account", "workspace"),
    Index("sign_in_workspace", "workspace"),
    Index("sign_in_expires", "expires_at"),
)
"""A family of tokens: all that came of one person's one yes to one program. Without its row none of them is good."""

ended_token = Table(
    "ended_token",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires_at", Instant, nullable=False),  # when it would have ended anyway
    Index("ended_token_expires", "expires_at"),
    sqlite_with_rowid=False,
)

device_code = Table(
    "device_code",
    metadata,
    Column("digest", String(64), primary_key=True),  # HMAC-SHA256 under the pepper, hex, like the next one
    Column("user_digest", String(64), nullable=False, unique=True),  # of what a person types
    Column("client", String(64), nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("account", String(64), nullable=False, server_default=""),  # who decided; "" while nobody has
    Column("workspace", String(64), nullable=False, server_default=""),  # what they said yes for; "" for a no
    Index("device_code_expires", "expires_at"),
)
"""A program that waits for a person's yes."""

browser_session = Table(
    "browser_session",
    metadata,
    Column("digest", String(64), primary_key=True),  # of the cookie, HMAC-SHA256 under the pepper, hex
    Column("account", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index("browser_session_account", "account"),
    Index("browser_session_expires", "expires_at"),
)

guess = Table(
    "guess",
    metadata,
    Column("about", String(64), primary_key=True),  # what is guessed, or from where, as a keyed digest
    Column("tries", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),  # when counting begins anew
    Index("guess_expires", "expires_at"),
    sqlite_with_rowid=False,
)
"""How often somebody has tried a password, or a code, lately."""

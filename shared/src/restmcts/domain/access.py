"""Who may do what in a project: a token has a role, and a caller is whoever shows its secret."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What the owner of a token may do: read the runs of a project; create and steer them; give out
    tokens and read who did what. Each role may do what the ones before it may.
    """

    READ = "read"
    RUN = "run"
    ADMIN = "admin"

    def allows(self, needed: "Role") -> bool:
        """Return whether this role may do what another one may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever shows the secret of a token that is valid; `token` is the token's name."""

    project: str
    project_id: int
    token: str
    role: Role

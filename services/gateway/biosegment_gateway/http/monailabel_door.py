"""Who may come in to the MONAI Label API: with a token, without one from this machine, or for one image by its name."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.types import Scope

from biosegment.auth import Kind, Principal
from biosegment.errors import PermissionDenied, Unauthenticated
from biosegment_gateway.domain import ADMIN
from biosegment_gateway.http.cookie import session_of
from biosegment_gateway.monailabel.link import ImageLinks
from biosegment_gateway.ports import Accounts

PREFIX: Final = "/monailabel/"
EMBEDDED: Final = "/monailabel/t/bsg_"
"""Before a token in the path, for programs that know nothing but an address: MONAI Label's Reviewer."""
FIRST_PARTS: Final = (
    "info auth activelearning datastore infer batch train scoring model session logs openapi.json settings"
).split()
"""Of paths of the API, which the chosen project also has at the root."""
_OPEN: Final = ("", "auth", "auth/", "auth/token")
_AUTH: Final = (*_OPEN[1:], "auth/token/valid")
"""Of this API; everything else below `/auth/` is the page's."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class MonaiLabelDoor:
    """Decides about requests before they reach a route.

    Args:
        accounts: Users of signed names.
        links: Names of images that carry a permission.
        is_open: Nobody has to sign in; the server listens on loopback alone.
        root_project: Id of the project at the root; '' for none.
        origins: Whose pages may call.
    """

    def __init__(
        self,
        accounts: Accounts,
        links: ImageLinks,
        *,
        is_open: bool,
        root_project: str,
        origins: tuple[str, ...],
    ) -> None:
        self._accounts = accounts
        self._links = links
        self._is_open = is_open
        self._root_project = root_project
        self._origins = origins

    def place(self, path: str) -> tuple[str, str] | None:
        """Project and rest of a path of the API; None for other paths."""
        if path.startswith(PREFIX):
            project, _, rest = path.removeprefix(PREFIX).partition("/")
            return project, rest
        rest = path.removeprefix("/")
        first = rest.partition("/")[0]
        if not self._root_project or first not in FIRST_PARTS or (first == "auth" and rest not in _AUTH):
            return None
        return self._root_project, rest

    def needs_nobody(self, path: str) -> bool:
        """Whether a path says nothing of any project: the ping, and how to sign in."""
        place = self.place(path)
        return place is not None and place[1] in _OPEN

    async def principal(self, scope: Scope, token: str) -> Principal | None:
        """Who asks without a token of the platform; None where one is needed, or came.

        Raises:
            Unauthenticated: As `ImageLinks.user`; USER_DISABLED.
            PermissionDenied: FOREIGN_ORIGIN, FOREIGN_HOST: a web page of somewhere else calls.
        """
        place = self.place(scope["path"])
        if place is None or token.startswith("bsg_"):
            return None
        if self._is_open:
            # Whatever else a client sends as a token it need not send.
            self._require_local(scope)
            return Principal(Kind.USER, ADMIN, is_admin=True)
        has_shown_nothing = not token and not session_of(scope)
        if has_shown_nothing and place[1] == "datastore/image" and scope["method"] in ("GET", "HEAD"):
            name = parse_qs(scope["query_string"].decode("latin-1")).get("image", [""])[0]
            user = await self._accounts.get_user(self._links.user(place[0], name))
            if user is None or user.disabled:
                raise Unauthenticated("USER_DISABLED", "the user of this name may not sign in any more")
            return Principal(Kind.USER, user.user_id, is_admin=user.is_admin)
        return None

    def _require_local(self, scope: Scope) -> None:
        """Everybody on this machine is let in; a page that a browser here has open somewhere is not."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = urlsplit(f"//{headers.get(b'host', '')}").hostname or ""
        if host not in _LOOPBACK:
            raise PermissionDenied(
                "FOREIGN_HOST",
                f"without signing in the address must be one of this machine, not {host[:100]!r}",
            )
        origin = headers.get(b"origin", "")
        if origin and origin not in self._origins and origin != f"http://{headers.get(b'host', '')}":
            raise PermissionDenied(
                "FOREIGN_ORIGIN",
                f"pages of {origin[:100]!r} may not call; add it to ALLOWED_ORIGINS where that is meant",
            )

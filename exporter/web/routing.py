"""Finds the handler of a request by its path."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tornado.httputil import HTTPInputError, HTTPServerRequest
from tornado.web import Application

from exporter.web.auth import Access
from exporter.web.handler import Handler, requested_path

NAME: Final = "NAME"

Route = tuple[type[Handler], Mapping[str, Any]]
"""A handler, and the arguments of its `initialize`."""


class App(Application):
    """Finds the handler of a request by its path, in which NAME stands for a battery's name."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        access: Access | None = None,
        useful: Sequence[str] = (),
    ) -> None:
        """Serve these routes by path.

        Args:
            routes: The handlers by path.
            access: Passwords and rate limit; None: every request is allowed.
            useful: The paths that a 404 names.
        """
        super().__init__(log_function=lambda _handler: None, access=access)
        self._routes = routes
        self._no_route: Route = _NotFoundHandler, {"useful": useful}
        self._named = {path.partition(NAME): routes[path] for path in routes if NAME in path}

    def find_handler(self, request: HTTPServerRequest, **_kwargs: Any) -> Any:
        """Return the delegate for a request.

        Raises:
            HTTPInputError: The client has left. Otherwise Tornado would answer all the requests
                that it had pipelined, which may be thousands.
        """
        stream = getattr(request.connection, "stream", None)
        if stream is not None and stream.closed():
            raise HTTPInputError("the client has left")
        handler, arguments = self._find(requested_path(request))
        return self.get_handler_delegate(request, handler, dict(arguments))

    def _find(self, path: str) -> Route:
        for (before, _, after), (handler, arguments) in self._named.items():
            if path.startswith(before) and path.endswith(after) and path[len(before) :] != after:
                name = path[len(before) : len(path) - len(after)]
                return handler, {**arguments, "name": name}
        return self._routes.get(path, self._no_route)


class _NotFoundHandler(Handler):
    METHODS = ()

    def initialize(self, useful: Sequence[str]) -> None:
        self._useful = useful

    async def respond(self) -> None:
        await self.fail(404, " ".join(["There is nothing here. Try one of:", *self._useful]))

"""What a replay could not do."""


class Problems:
    """The first thing that a recording does not hold."""

    def __init__(self, source: str) -> None:
        """Name `source` in problems that belong to no line."""
        self._source = source
        self.first: str | None = None

    def note(self, problem: str) -> None:
        """Keep the first problem; later ones follow from it."""
        if self.first is None:
            is_placed = problem.startswith(self._source)
            self.first = problem if is_placed else f"{self._source}: {problem}"

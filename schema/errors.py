"""One family of errors. The CLI turns any of them into exit code 1 and a message without a traceback."""

LINE_CHARS = 500  # of a message: posts hold words of thousands of characters, and messages quote them


def _short(text: str) -> str:
    lines = [
        line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}… ({len(line)} characters)"
        for line in text.split("\n")
    ]
    return "\n".join(lines)


class FmitError(Exception):
    """Says what is wrong, where (file:line, row or key), what was found, and what to do next."""

    def __init__(self, what: str, *, where: str = "", found: str = "", todo: str = "") -> None:
        self.what, self.where, self.found, self.todo = what, where, found, todo
        message = _short(f"{where}: {what}" if where else what)
        if found:
            message += f" (found {_short(found)})"
        self.fact = message  # all but what to do
        super().__init__(f"{message}; {todo}" if todo else message)

    def __str__(self) -> str:  # KeyError, a parent of MissingKeys, would print a repr
        return str(self.args[0])


class ConfigError(FmitError):
    """A parameter that is unknown, of the wrong kind, or in conflict with another."""


class DataError(FmitError):
    """A post, label or table that does not keep its contract."""


class ImageError(FmitError):
    """A picture that cannot or must not be decoded; `state` is its outcome in the posts table."""

    def __init__(self, what: str, *, state: str, where: str = "", found: str = "", todo: str = "") -> None:
        super().__init__(what, where=where, found=found, todo=todo)
        self.state = state


class WeightsError(FmitError):
    """A model file that is missing, damaged, of another layout, or must not be used here."""


class SyntheticError(WeightsError):
    """A part trained on drawings was given a picture that the project did not draw."""


class StoreError(FmitError):
    """The store cannot do what was asked; what it holds is intact."""


class MissingKeys(StoreError, KeyError):
    """Keys that the store does not hold; `keys` lists them."""

    def __init__(self, keys: list[str], *, where: str = "") -> None:
        self.keys = keys
        shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
        super().__init__(f"{len(keys)} key(s) not in the store", where=where, found=shown)


class PackError(FmitError):
    """A pack that is damaged, or does not fit the posts or the run it is used with."""


class RunError(FmitError):
    """A run folder that is incomplete, or does not fit what is asked of it."""

"""The exceptions of FMIT. The CLI turns each of them into exit code 1 and a message without a traceback."""

LINE_CHARS = 500  # longest line of a message; messages quote words, and a word may have thousands of characters


def _short(text: str) -> str:
    lines = text.split("\n")
    return "\n".join(f"{x[:LINE_CHARS]}… ({len(x)} characters)" if len(x) > LINE_CHARS else x for x in lines)


class FmitError(Exception):
    """Base class. Says what is wrong, where (file:line, row or key), what was found, and what to do next."""

    def __init__(self, what: str, *, where: str = "", found: str = "", todo: str = "") -> None:
        self.what, self.where, self.found, self.todo = what, where, found, todo
        self.fact = _short(f"{where}: {what}" if where else what) + (f" (found {_short(found)})" if found else "")
        super().__init__(f"{self.fact}; {todo}" if todo else self.fact)


class ConfigError(FmitError):
    """A parameter that is unknown, has the wrong type, or conflicts with another."""


class DataError(FmitError):
    """A post, label or table that breaks its contract."""


class ImageError(FmitError):
    """An image that cannot or must not be decoded; `state` is its state in posts.parquet."""

    def __init__(self, what: str, *, state: str, where: str = "", found: str = "", todo: str = "") -> None:
        super().__init__(what, where=where, found=found, todo=todo)
        self.state = state


class WeightsError(FmitError):
    """A model file that is missing, damaged, in another format, or not allowed here."""


class SyntheticError(WeightsError):
    """A model that was trained on synthetic images was given a photograph."""


class StoreError(FmitError):
    """An operation of the store failed; its contents are intact."""


class MissingKeys(StoreError):
    def __init__(self, keys: list[str], *, where: str = "") -> None:
        self.keys = keys
        shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
        super().__init__(f"{len(keys)} key(s) not in the store", where=where, found=shown)


class PackError(FmitError):
    """A pack that is damaged, or does not match the posts or the run that it is used with."""


class RunError(FmitError):
    """A run folder that is incomplete, or cannot do what was requested."""

"""Options of plugins: as a manifest declares them, as the user sets them, as `init` gets them.

After lightningd/plugin.c (plugin_opt_add, json_add_plugin_options) and lightningd/configs.c.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.double.jsonio import Json, token

TYPES = ("string", "string-conceal", "int", "bool", "flag")
TRUE = ("true", "yes", "1", "on")
FALSE = ("false", "no", "0", "off")
# The values given to an option, in order; None is a bare `--name`.
Given = Sequence[str | None]


class OptionError(ValueError):
    """An option cannot be declared or set; the message is lightningd's."""


@dataclass(frozen=True)
class Option:
    """One option that a plugin declares."""

    name: str
    type: str
    default: str | None
    multi: bool
    plugin: str

    def as_init(self, given: Given) -> Json:
        """Return the value for `init`; None if the option is omitted there."""
        if self.type == "flag":
            return True if given else None
        values = [v or "" for v in given] or ([self.default] if self.default is not None else [])
        if not values:
            return None
        shown = [self._typed(value) for value in values]
        return shown if self.multi else shown[-1]

    def as_config(self, given: Given, sources: Sequence[str]) -> Json:
        """Return the entry for `listconfigs`; None if there is none."""
        source = sources[-1] if sources else "default"
        if self.type == "flag":
            return {"set": bool(given), "source": source, "plugin": self.plugin}
        kind = {"int": "int", "bool": "bool"}.get(self.type, "str")
        if self.multi:
            shown = [self._typed(value or "") for value in given]
            return {f"values_{kind}": shown, "sources": list(sources), "plugin": self.plugin}
        value = self.as_init(given)
        if value is None:
            return None
        value = "..." if self.type == "string-conceal" else value
        return {f"value_{kind}": value, "source": source, "plugin": self.plugin}

    def check(self, value: str | None) -> None:
        """Raise OptionError if the value is of the wrong type."""
        if self.type == "flag":
            if value is not None:
                raise OptionError("doesn't allow an argument")
            return
        if value is None:
            raise OptionError("requires an argument")
        self._typed(value)

    def _typed(self, value: str) -> Json:
        if self.type == "int":
            try:
                return int(value, 0)
            except ValueError:
                raise OptionError(f"'{value}' is not a number") from None
        if self.type == "bool":
            if value.lower() not in TRUE + FALSE:
                raise OptionError(f"Invalid argument '{value}'")
            return value.lower() in TRUE
        return value


def declare(declared: Json, plugin: str) -> Option:
    """Return the option that a manifest declares.

    Raises:
        OptionError: lightningd would refuse it.

    """
    if not {"name", "type", "description"} <= declared.keys():
        raise OptionError('An option is missing either "name", "description" or "type"')
    name, type_, default = declared["name"], declared["type"], declared.get("default")
    multi = declared.get("multi", False)
    if not re.fullmatch("[0-9a-z_-]+", name):
        raise OptionError('Option "name" must be lowercase alphanumeric, plus _ or -\'')
    if type_ not in TYPES:
        raise OptionError('Only "string", "int", "bool", and "flag" options are supported')
    if multi and type_ in ("flag", "bool"):
        raise OptionError(f"{type_} type cannot be multi")
    if type_ == "flag" and default not in (None, False):
        raise OptionError(f"--{name} type flag default must be 'false' not {token(default)}")
    default = None if type_ == "flag" or default is None else token(default)
    option = Option(name, type_, default, multi, plugin)
    if default is not None:
        option.check(default)
    return option


def given_values(
    option: Option, cmdline: Mapping[str, Given], started: Mapping[str, Given]
) -> tuple[Given, Sequence[str]]:
    """Return the values of an option and the source of each.

    Values of `plugin start` override those of the command line. Those of a multi option are added.
    """
    first, second = cmdline.get(option.name, ()), started.get(option.name, ())
    if second and not option.multi:
        first = ()
    sources = ["cmdline"] * len(first) + ["pluginstart"] * len(second)
    return [*first, *second], sources

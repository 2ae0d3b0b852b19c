"""Names of connections: which are valid, which are equal, and which look alike.

A name is shown in terminals and typed to change or revoke a connection, so it must be one visible line.
`parse_name` is for new names. A name to look up has no rule but `same_form`, because earlier versions
stored names that are refused today.

Normal forms are those of UAX #15, confusables those of UTS #39, emoji sequences those of UTS #51.
"""

# ruff: noqa: RUF001 - look-alikes are what this is about
import re
import unicodedata
from collections.abc import Iterable

# Code points; at most four times as many bytes of UTF-8.
MAX_NAME_LENGTH = 64
# A name that is typed may be longer before it is normalised: up to three code points for one.
_MAX_TYPED_LENGTH = 1000

_RULE = f"must be 1 to {MAX_NAME_LENGTH} printable characters, at least one of them visible"

# Invisible characters (Default_Ignorable_Code_Point), and two empty symbols.
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180d\u180f"
_OTHER_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff\u2800\U0001d159"
)
_INVISIBLE = re.compile(f"[{_JOINERS}{_SELECTORS}{_OTHER_INVISIBLE}]")
# Variation selectors and joiners belong to the character before them, as in emoji, Persian, Hindi.
_VISIBLE_WITH_JOINER = re.compile(
    rf"([^\s{_JOINERS}{_SELECTORS}{_OTHER_INVISIBLE}])(?:[{_SELECTORS}][{_JOINERS}]?|[{_JOINERS}])"
)
# The flags of England, Scotland and Wales: a black flag, tags that name the region, and an end tag.
_REGION_FLAG = re.compile("(\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
# Unicode reserves all of this for emoji; Python may not know the newest of them.
_EMOJI = range(0x1F000, 0x1FB00)
# Controls, formats, surrogates, private use, unassigned, line and paragraph separators.
_REFUSED_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def parse_name(value: object) -> str:
    """Return a new name in normal form C; a number becomes its digits.

    Raises:
        ValueError: not a text, empty, too long, or without a visible character; or it has a control,
            bidirectional, unassigned or private character, or an invisible one that no word or emoji
            needs.

    """
    name = same_form(parse_typed_name(value))
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"{_RULE}; got {len(name)}: {value!r:.80}")
    plain = _VISIBLE_WITH_JOINER.sub(r"\1", _REGION_FLAG.sub(r"\1", name))
    for character in plain:
        if _is_refused(character):
            raise ValueError(f"{_RULE}; got {value!r:.80} with U+{ord(character):04X}")
    if not any(unicodedata.category(character)[0] in "LNPSC" for character in plain):
        raise ValueError(f"{_RULE}; got {value!r:.80}")
    return name


def parse_typed_name(value: object) -> str:
    """Return a name to look up, without the spaces around it; a number becomes its digits.

    Raises:
        ValueError: not a text, empty, or longer than _MAX_TYPED_LENGTH.

    """
    is_text = isinstance(value, str | int) and not isinstance(value, bool)
    name = str(value).strip() if is_text else ""
    if not 0 < len(name) <= _MAX_TYPED_LENGTH:
        raise ValueError(f"{_RULE}; got {value!r:.80}")
    return name


def same_form(name: str) -> str:
    """Return the form for comparing names: some keyboards write é as one code point, others as two."""
    return unicodedata.normalize("NFC", name.strip())


def names_like(name: str, others: Iterable[str]) -> list[str]:
    """Return the other names that a person could confuse with this one."""
    folded, skeleton = _folded(name), _skeleton(name)
    return [other for other in others if _folded(other) == folded or _skeleton(other) == skeleton]


def _is_refused(character: str) -> bool:
    if _INVISIBLE.match(character):
        return True
    category = unicodedata.category(character)
    return category in _REFUSED_CATEGORIES and not (category == "Cn" and ord(character) in _EMOJI)


# Look-alikes. The tables have the usual ones of Cyrillic, Greek and Latin, not all of UTS #39. They are
# for a warning to the owner, who chooses the names: they protect from mistakes, not from attacks.

_CAPITALS = str.maketrans(
    "I|10" + "АВЕЗКМНОРСТУХЅІЈҮӀԚԜЬ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "lllO" + "ABE3KMHOPCTYXSlJYlQWb" + "ABEZHlKMNOPTYX",
)
_SMALL = str.maketrans(
    "авезкмнопрстухѕіјһүӏԁԛԝьг" + "αβγεηικμνορτυχω" + "ıɑɡ" + "‘’‛ʼ′`−",
    "abe3kmhonpctyxsijhyldqwbr" + "abyenikuvoptuxw" + "iag" + "''''''-",
)


def _folded(name: str) -> str:
    """Return a name without case, spaces, invisible characters and compatibility forms."""
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFKD", name))
    return unicodedata.normalize("NFKD", "".join(visible.split()).casefold())


def _skeleton(name: str) -> str:
    """Return a text that is equal for names that look alike."""
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFKD", name))
    small = _folded(visible.translate(_CAPITALS)).translate(_SMALL)
    dashed = "".join("-" if unicodedata.category(c) == "Pd" else c for c in small)
    return dashed.replace("rn", "m").replace("vv", "w")

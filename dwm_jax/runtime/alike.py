"""Names that were mistyped."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'NAME'? ` where one of the known names looks alike, whatever its case; else nothing."""
    by_lower_case = {one.lower(): one for one in known}
    alike = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[alike[0]]!r}? " if alike else ""

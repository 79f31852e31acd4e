"""Labels of internationalised DNS names. Source: RFC 5890 section 2.3.1, RFC 5892 (which signs a label may have)."""

from __future__ import annotations

import unicodedata

_JOINERS = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d")
"""Signs that RFC 5892 appendix A allows beside letters, marks and digits, in a context that is not checked here."""


def alabel_fault(name: str) -> str | None:
    """Why a label of a DNS name in lower case is none, as the end of a sentence, or None.

    Labels with `--` in third place are reserved for A-labels, which must decode to what they say.
    """
    return next((fault for label in name.split(".") if (fault := _label_fault(label))), None)


def _label_fault(label: str) -> str | None:
    if label[2:4] != "--":
        return None
    if not label.startswith("xn--"):
        return f"has the reserved label {label!r}"
    try:
        text = label[4:].encode("ascii").decode("punycode")
        sound = (
            not text.isascii()
            and all(one in _JOINERS or unicodedata.category(one)[0] in "LMN" or one == "-" for one in text)
            and text == text.lower()
            and unicodedata.is_normalized("NFC", text)
            and text.encode("punycode").decode("ascii").lower() == label[4:]
        )
    except (UnicodeError, ValueError):
        sound = False
    return None if sound else f"has the label {label!r}, which is not an internationalised one"

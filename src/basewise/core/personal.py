"""Personal data in texts: e-mail, phone, IBAN, payment card and IP address, by pattern and by check digits.

IBANs must pass ISO 13616's mod-97 test and cards Luhn's (US patent 2,950,048), so order numbers rarely match. Phones have
no check digit: an international prefix, a bracketed area code, the grouping of a phone number or a word such as "tel" before it is
asked for, and dates are passed over.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

KINDS = ("email", "phone", "iban", "card", "ip")
EMAIL = re.compile(r"[\w.+%-]+@(?:[\w-]+\.)+[a-zA-Z]{2,}")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
CARD = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
IP6 = re.compile(r"(?<![\w:])[0-9a-fA-F]{4}:(?:[0-9a-fA-F]{1,4}:){0,6}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:])")
PHONE = re.compile(
    r"""(?<![\w.+/-])(?:
        (?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,5}\)[ ./-]?)?\d{1,5}(?:[ ./-]?\d{1,5}){1,5}   # +49 30 123456, 0044 ...
      | (?:1[ .-]?)?\(\d{2,5}\)[ ./-]?\d{2,5}(?:[ ./-]?\d{2,5}){1,3}                          # (555) 123-4567
      | 0[1-9](?:[ .-]\d{2}){4}                                                                # 01 23 45 67 89
      | 0\d{1,4}[ /-]\d{2,5}(?:[ -]?\d{2,5}){1,3}                                             # 030 123 45 67, 0171/1234567
      | 0(?:1[5-7]\d{8,9}|7\d{9}|6\d{8})                                                      # 01711234567, 07911123456
      | (?:1[ .-])?[2-9]\d{2}[ .-]\d{3}[ .-]\d{4}                                             # 555-123-4567
      | (?:91[ -])?[6-9]\d{4}[ -]\d{5}                                                        # 98765 43210
      | [679]\d{2}(?:[ -]\d{2}){3} | [679]\d{2}(?:[ -]\d{3}){2} | 9[1-8][ -]\d{3}(?:[ -]\d{2}){2}  # 612 34 56 78, 91 123 45 67
      | [49]\d{2}[ ]\d{2}[ ]\d{3}                                                            # 912 34 567
      | [2-9]\d{2}-\d{4}                                                                       # 555-0123
    )(?![\w-]|\.\d|\ ?[€$£%])""",
    re.VERBOSE,
)
CALLED = re.compile(
    r"""\b(?:t[eé]l(?:[eé](?:phone|fono|fon))?|telf|tlf|phone|mobile?|m[oó]vil|mob|cell|handy|whats\ ?app|call|dial|fax|contact|(?:reach|text)\ (?:me|us)|(?:my|our)\ number)\b
        (?:(?!order|invoice|ticket|case|ref|account|card|id\b|\#)[^\d\n]){0,20}
        (?P<number>\d(?:[ .-]?\d){7,10})(?![\w-]|\.\d)                                        # tlf 22 12 34 56, call 9876543210
    """,
    re.VERBOSE | re.IGNORECASE,
)
PHONE_WORDS = {
    "phone",
    "phones",
    "telephone",
    "tel",
    "mobile",
    "cell",
    "fax",
    "telefon",
    "handy",
    "mobil",
    "msisdn",
    "whatsapp",
}
DATE = re.compile(
    r"""(?<![\d./-])(?:
        (?:19|20)\d\d([./-])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])                       # 2025-03-14
      | (?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d               # 14/03/2025
      | (?<!\d\ )(?:19|20)\d\d\ (?:0?[1-9]|1[0-2])\ (?:0?[1-9]|[12]\d|3[01])                 # 2025 03 14
      | (?<!\d\ )(?:0?[1-9]|[12]\d|3[01])\ (?:0?[1-9]|[12]\d|3[01])\ (?:19|20)\d\d          # 14 03 2025
      | (?<!\d\ )(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|[12]\d|3[01])\3\d\d              # 14.03.25
      | (?<!\d\ )(?:0?[1-9]|[12]\d|3[01])\ (?:0?[1-9]|[12]\d|3[01])\ \d\d(?=\ \d\d?:\d\d)  # 14 03 25 10:22
      | (?<!\d\ )(?:0[1-9]|1[0-2])/(?:19|20)\d\d                                             # 03/2025
      | (?<!\d\ )0\d{1,4}/(?:19|20)\d\d(?!\ \d)                                            # 0123/2025, a case of a year
      | (?:[01]\d|2[0-4])(?:00|15|30|45)\ ?-\ ?(?:[01]\d|2[0-4])(?:00|15|30|45)(?!\ \d)      # 0900-1700
    )(?!\d|[./-]\d)""",
    re.VERBOSE,
)


def find_personal(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of every piece of personal data in one text; a digit run is claimed by one kind only."""
    if "@" in text:
        for found in EMAIL.finditer(text):
            yield "email", found.start(), found.end()
    # an IPv6 address may be all letters
    if sum(map(str.isdigit, text)) < 4 and text.count(":") < 2:
        return
    taken: list[tuple[int, int]] = []
    dateless = _without_dates(text)
    for kind, pattern, valid in (
        ("iban", IBAN, is_iban),
        ("card", CARD, is_card),
        ("ip", IP4, is_ip),
        ("ip", IP6, is_ip),
        ("phone", PHONE, _is_grouped_phone),
        ("phone", CALLED, _is_phone),
    ):
        for found in pattern.finditer(dateless if kind in ("phone", "card") else text):
            start, end = found.span("number" if pattern is CALLED else 0)
            while kind == "iban" and not is_iban(text[start:end]) and " " in text[start:end]:
                # the word behind it is in capitals, too
                end = start + text[start:end].rindex(" ")
            if valid(text[start:end]) and not any(start < e and s < end for s, e in taken):
                taken.append((start, end))
                yield kind, start, end


def replaced(text: str, spans: Sequence[tuple[str, int, int]]) -> str:
    """The text with each span (kind, start, end), in order, replaced by its kind in brackets: [email]."""
    pieces, at = [], 0
    for kind, start, end in spans:
        if start >= at:
            pieces += [text[at:start], f"[{kind}]"]
            at = end
    return "".join([*pieces, text[at:]])


def redacted(text: str) -> str:
    """The text without its personal data."""
    return replaced(text, sorted(find_personal(text), key=lambda span: span[1:]))


def personal_rows(texts: Sequence[str]) -> dict[str, list[int]]:
    """{kind: positions of the texts that hold it} for the kinds that occur."""
    rows: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        for kind in {kind for kind, _, _ in find_personal(text)}:
            rows.setdefault(kind, []).append(i)
    return {kind: rows[kind] for kind in KINDS if kind in rows}


def personal_numbers(name: str, values: Sequence[str]) -> dict[str, list[int]]:
    """As `personal_rows`, of a column of plain numbers: phones where its name says so, cards where nearly all pass the test of one."""
    filled = [i for i, value in enumerate(values) if value]
    phones = [i for i in filled if _is_phone(values[i])]
    if PHONE_WORDS & set(re.split(r"[^a-z]+", name.lower())) and len(phones) > len(filled) / 2:
        return {"phone": phones}
    cards = [i for i in filled if is_card(values[i])]
    return {"card": cards} if cards and len(cards) >= 0.9 * len(filled) else {}


def is_iban(text: str) -> bool:
    """ISO 13616: country and check digits to the end, letters as 10..35, remainder 1 by 97."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(ch, 36)) for ch in plain[4:] + plain[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """13 to 19 digits in an issuer's range whose Luhn sum is a multiple of ten."""
    digits = [int(ch) for ch in text if ch.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 2:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address; version numbers such as 1.2.3.4 and the addresses that name no machine are not."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.version == 4 and all(len(part) == 1 for part in text.split(".")):
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast)


def _without_dates(text: str) -> str:
    """The text with a sign for each character of a date, since dates and times look like phone and card numbers."""
    return DATE.sub(lambda found: "\0" * len(found.group()), text)


def _is_grouped_phone(text: str) -> bool:
    """Whether digits that are grouped like a phone number can be one: not 0815 4711, and not 010-020-030."""
    groups = re.findall(r"\d+", text)
    few = text[0] == "0" != text[1] and sum(map(len, groups)) < 9
    counted = len(groups) > 1 and all(group[0] == "0" for group in groups)
    return _is_phone(text) and not few and not counted


def _is_phone(text: str) -> bool:
    return 7 <= sum(map(str.isdigit, text)) <= 15

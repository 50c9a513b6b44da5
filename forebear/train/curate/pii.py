"""Replaces personal data in running text by placeholders: addresses, numbers, accounts.

Found by form alone, so a name or a street stays; a number counts as a card or an account only when
its check digits hold, and as a phone number only when it is written as one. E-mail and IPv4
patterns are datatrove's. Its placeholders go round in a circle, which would tie a text to those
before it; here each kind has one.

Source: ITU-T E.164 and E.123 (phone numbers), ISO/IEC 7812-1 annex B (cards), ISO 13616-1 (IBAN).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.formatters.pii import PIIFormatter, PIIReplacer

# E.123: an international number begins with +; a North American one has its code in brackets or
# its three groups parted by hyphens or dots. Bare digits are codes more often than phones.
_PHONE = (
    r"(?<![\w+])(?:\+[1-9]\d{0,2}(?:[ .()/-]{0,2}\d){6,12}"
    r"|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}([-.])\d{3}\1\d{4})(?![\w-])"
)
_CARD = r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])"
_IBAN = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
_IPV6 = r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
_IBAN_LENGTHS = range(15, 35)


def _luhn(text: str) -> bool:
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    plain = text.replace(" ", "")
    number = "".join(str(int(one, 36)) for one in plain[4:] + plain[:4])
    return len(plain) in _IBAN_LENGTHS and int(number) % 97 == 1


def _public_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).is_global
    except ValueError:
        return False


class PersonalData(PipelineStep):
    """Replaces what its kinds find, in the text and in the fields of an instruction.

    How many of each kind were replaced stands in the document's metadata under ``pii``.

    Args:
        kinds: ``email``, ``ip``, ``phone``, ``card``, ``iban``.
    """

    type = "✂️ - FORMAT"
    name = "pii"

    def __init__(self, kinds: Iterable[str]) -> None:
        super().__init__()
        theirs = PIIFormatter(email_replacement="<EMAIL>", ip_replacement="<IP>")
        known = {
            "email": (theirs.emails_replacer,),
            "iban": (PIIReplacer(_IBAN, "<IBAN>", _iban),),
            "card": (PIIReplacer(_CARD, "<CARD>", _luhn),),
            "ip": (theirs.ip_replacer, PIIReplacer(_IPV6, "<IP>", _public_ipv6)),
            "phone": (PIIReplacer(_PHONE, "<PHONE>"),),
        }
        # in this order, whatever the params say: a card is no phone, an address no number
        self.replacers = {name: known[name] for name in known if name in set(kinds)}

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents without personal data."""
        del rank, world_size
        for doc in data or ():
            counts: Counter[str] = Counter()
            doc.text = self.replace(doc.text, counts)
            fields = doc.metadata.get("fields")
            if fields:
                ignored: Counter[str] = Counter()  # the text holds the fields, so it has counted
                doc.metadata["fields"] = {
                    name: self.replace(value, ignored) for name, value in fields.items()
                }
            if counts:
                doc.metadata["pii"] = dict(counts)
            yield doc

    def replace(self, text: str, counts: Counter[str]) -> str:
        """``text`` with placeholders; ``counts`` gets how many of each kind."""
        for name, replacers in self.replacers.items():
            for replacer in replacers:
                mark = replacer.replacements[0]
                before = text.count(mark)
                text = replacer.replace(text)
                if text.count(mark) > before:
                    counts[name] += text.count(mark) - before
        return text

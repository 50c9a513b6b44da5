"""Reads ICD-10-CM and chooses the codes that this run is about.

Choice is by hash of the seed, so a larger selection contains a smaller one's order and nothing
depends on when or where it runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.train.curate.decontaminate import normalise
from forebear.train.curate.params import CurateParams, SourceParams

# A golden code must leave at least three trained codes in its category (evaluation, section 8).
MIN_CODES = 4


@dataclass(frozen=True, slots=True)
class Code:
    """One billable code and what stands around it in the classification.

    Attributes:
        chapter: number of the chapter, 1 to 22.
        notes: inclusion terms and exclusion notes, as ``(heading, text)``.
    """

    code: str
    title: str
    category: str
    category_title: str
    chapter: int
    chapter_title: str
    notes: tuple[tuple[str, str], ...] = ()


def rank(seed: int, *parts: object) -> bytes:
    """Sort key that orders things at random but the same way each time."""
    return hashlib.sha256("|".join(map(str, (seed, *parts))).encode()).digest()


def read_codes(source: SourceParams, chapters: Sequence[str] | None) -> list[Code]:
    """Every billable code whose first letter is chosen, in the classification's order.

    Raises:
        EnvironmentFailure: the package is missing or has another version.
        ConfigError: no code is left.
    """
    require_version(source)
    import simple_icd_10_cm as icd

    wanted = letters(chapters)
    found: list[Code] = []
    ancestors: dict[str, tuple[str, int, str]] = {}
    for code in icd.get_all_codes(with_dots=True):
        if code[0] not in wanted or not icd.is_category_or_subcategory(code):
            continue
        if not icd.is_leaf(code):
            continue
        category = code[:3]
        if category not in ancestors:
            chapter = icd.get_ancestors(category)[-1]
            titles = icd.get_description(category), icd.get_description(chapter)
            ancestors[category] = (titles[0], int(chapter), titles[1].rpartition(" (")[0])
        category_title, number, chapter_title = ancestors[category]
        title = icd.get_description(code)
        found.append(Code(code, title, category, category_title, number, chapter_title))
    if not found:
        raise ConfigError("no code is left", where="params.yaml: curate.chapters")
    return found


def with_notes(one: Code) -> Code:
    """The code with its notes; read for the chosen codes alone, as there are many others."""
    import simple_icd_10_cm as icd

    readers = (
        ("Includes", icd.get_inclusion_term),
        ("Includes", icd.get_includes),
        ("Excludes", icd.get_excludes1),
        ("Not included here", icd.get_excludes2),
    )
    notes = tuple((heading, text) for heading, read in readers for text in read(one.code))
    return replace(one, notes=notes)


def require_version(source: SourceParams) -> None:
    """Refuses a package that is missing or has another version than the params pin.

    Raises:
        EnvironmentFailure: so it is.
    """
    name = str(source.package)
    install = f"pip install {name}=={source.version}"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise EnvironmentFailure(
            "the package is not installed", where=f"source {source.id}: {name}", fix=install
        ) from None
    if installed != source.version:
        raise EnvironmentFailure(
            f"version {installed} is installed, the params pin {source.version}",
            where=f"source {source.id}: {name}",
            fix=f"{install}, or pin the installed version in curate.sources",
        )


def letters(chapters: Sequence[str] | None) -> frozenset[str]:
    """First letters that ``chapters`` (letters and ranges like ``A-F``) stand for."""
    spans = chapters if chapters is not None else ("A-Z",)
    return frozenset(
        chr(point) for span in spans for point in range(ord(span[0]), ord(span[-1]) + 1)
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """The codes that a run is about, by category.

    Attributes:
        trained: of the chosen categories; the golden codes are still among them.
        unseen: of categories that no training text is about.
    """

    trained: dict[str, list[Code]]
    unseen: dict[str, list[Code]]


# At most one category in so many is held out whole.
_UNSEEN_SHARE = 5


def select(codes: Iterable[Code], params: CurateParams) -> Selection:
    """Chosen codes by category: categories spread over chapters, codes over categories.

    Codes whose title another code has too, after normalisation, are left out, and so are
    categories with fewer than four codes. The categories held out whole are the next in order.

    Raises:
        ConfigError: no category is left.
    """
    seed = params.seed
    by_category = _distinct(codes)
    by_chapter: dict[int, list[str]] = defaultdict(list)
    for category, members in by_category.items():
        if len(members) >= MIN_CODES:
            by_chapter[members[0].chapter].append(category)
    for categories in by_chapter.values():
        categories.sort(key=lambda name: rank(seed, "category", name))
    n_all = sum(map(len, by_chapter.values()))
    spare = min(params.golden.unseen, n_all // _UNSEEN_SHARE)
    ordered = spread(by_chapter, min(n_all, params.max_categories + params.golden.unseen))
    chosen = ordered[: min(params.max_categories, n_all - spare)]
    if not chosen:
        raise ConfigError(
            "no category has four codes with titles of their own",
            where="params.yaml: curate.chapters",
        )
    cap = max(MIN_CODES, params.max_documents // len(chosen))
    kept = {
        name: sorted(by_category[name], key=lambda one: rank(seed, "code", one.code))[:cap]
        for name in chosen
    }
    unseen = ordered[len(chosen) :][: params.golden.unseen]
    return Selection(
        {
            name: [with_notes(one) for one in sorted(found, key=lambda one: one.code)]
            for name, found in kept.items()
        },
        {name: by_category[name] for name in unseen},
    )


def _distinct(codes: Iterable[Code]) -> dict[str, list[Code]]:
    by_title: dict[str, list[Code]] = defaultdict(list)
    for one in codes:
        by_title[normalise(one.title)].append(one)
    by_category: dict[str, list[Code]] = defaultdict(list)
    for same in by_title.values():
        if len(same) == 1:
            by_category[same[0].category].append(same[0])
    return by_category


def spread(groups: Mapping[int, Sequence[str]], limit: int) -> list[str]:
    """Up to ``limit`` names, taken from the groups in turn, each group in its own order."""
    taken: list[str] = []
    depth = max(map(len, groups.values()), default=0)
    for place in range(depth):
        for key in sorted(groups):
            if place < len(groups[key]) and len(taken) < limit:
                taken.append(groups[key][place])
    return taken

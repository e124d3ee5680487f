# ruff: noqa: E501 -- tables of choices, one a line
"""Strings that name a structure of INFN: what the institute, its parts and their surroundings are called, and in which order."""

from collections.abc import Callable
from random import Random

from examples.affiliations.grammar import address, country, join, pick
from examples.affiliations.sections import SECTIONS
from examples.affiliations.structure import Structure
from examples.affiliations.surroundings import GUESTS, OTHER_DEPARTMENTS, OTHERS

INSTITUTES = (
    "INFN",
    "INFN",
    "INFN",
    "Ist Nazl Fis Nucl",
    "Ist Nazl Fis Nucl",
    "Ist Nazl Fis Nucl",
    "{Ist {Naz|Nazl|Nazionale} Fis{|ica} Nucl{|eare}|Ist. Naz. {di |}Fis. Nucl.|Istit Nazl Fis Nucl|Inst Nazl Fis Nucl|Ist Fis Nucl}",
    "{Ist Nazl Fis Nucl|Istituto Nazionale di Fisica Nucleare} {INFN|(INFN)|- INFN}",
    "{INFN Ist Nazl Fis Nucl|INFN, Ist Nazl Fis Nucl|INFN Istituto Nazionale di Fisica Nucleare|INFN - Istituto Nazionale di Fisica Nucleare}",
    "Istituto Nazionale {|di }Fisica Nucleare",
    "Istituto Nazionale di Fisica Nucleare",
    "{Natl|National|Nat} {Inst|Institute} {|for |of }Nucl{|ear} Phys{|ics}",
    "Natl Inst Nucl Phys",
    "National Institute {for|of} Nuclear Physics{| (INFN)| INFN}",
    "{INFN Natl Inst Nucl Phys|Natl Inst Nucl Phys INFN|Italian {|Natl }Inst {|for }Nucl{|ear} Phys{|ics}|Natl Inst Nucl Phys Italy}",
    "{I.N.F.N.|INFN|I N F N}",
)


def institute(random: Random) -> str:
    return pick(random, random.choice(INSTITUTES))


def department(random: Random, structure: Structure) -> str:
    if random.random() < 0.4:
        return pick(
            random,
            "{Dept Phys|Dept Phys|Dipartimento Fis|Dip Fis|Dip. {|di }Fisica|Dipt Fis|Dipto Fis|Dipartimento di Fisica|Department of Physics|Phys Dept|Dept {Phys & Astron|Math & Phys|Engn}|Fac Sci|Dipartimento {Ingn|Matemat}|Theory Grp|Ist Fis|Inst Phys}",
        )
    return pick(random, random.choice(structure.departments)).replace("  ", " ")


def _university(random: Random, structure: Structure) -> str:
    return pick(random, random.choice(structure.universities))


SECTION_FORMS = "{Sez{|ione|.} {|di }@|Sez @|Sez @|{|the }{Sect|Section|Div|Division|Sec} {|of }@|@ {Sect|Section|Div|Sez|Unit|Branch|Division|Grp}|Unit{à|a|} {|di }@}"
INFN_SECTION_FORMS = (
    "{INFN @|INFN @|INFN-@|INFN - @|@ INFN|INFN, @|INFN Sez{|.|ione} {|di }@|INFN, Sez{|ione} {|di }@|INFN-Sez{|ione} {|di }@|Sez{|ione} INFN {|di }@"
    "|Sez{|ione} {|di }@ INFN|INFN (@)|INFN {Sect|Div|Section} {|of }@|@ {Sez|Sect|Div} INFN|INFN/@|{dell|Dell} INFN @|INFN at @|INFN @ Sect|INFN Grp @|Sez {dell |}INFN @}"
)


def _section(random: Random, place: str) -> str:
    """The name of a section without the institute."""
    return pick(random, SECTION_FORMS).replace("@", place)


def _infn_section(random: Random, place: str) -> str:
    """Institute and section in one."""
    inst, part = institute(random), _section(random, place)
    if random.random() < 0.45:
        return pick(random, INFN_SECTION_FORMS).replace("@", place)
    return random.choice(
        (
            f"{inst}, {part}",
            f"{inst}, {part}",
            f"{inst}, {part}",
            f"{inst} {part}",
            f"{part}, {inst}",
            f"{part} {inst}",
            f"{inst} {place}",
            f"{inst}, {place}",
            f"{inst} - {part}",
            f"{inst} ({part})",
            f"{part} of {inst}",
            f"{place} {inst}",
        )
    )


def _infn_laboratory(random: Random, structure: Structure, place: str) -> str:
    name, inst = pick(random, random.choice(structure.names)), institute(random)
    kind = random.random()
    if kind < 0.25:
        forms = f"INFN @|INFN-@|@-INFN|INFN, @|@ INFN|INFN/@|@, INFN|@ (INFN)|@ - INFN|@, {inst}|{inst}, @|{inst} @|{inst} (@)"
        return pick(random, "{" + forms + "}").replace("@", structure.acronym or structure.code)
    if kind < 0.5 and structure.towns:
        town = pick(random, structure.towns)
        labs = "{Lab{|s} {Nazl|Naz}|Laboratori Nazionali|Natl Lab{|s}|National Laborator{y|ies}}"
        forms = (
            f"{inst}, {labs} {town}|INFN {labs} {town}|{labs} INFN {town}|{town} {labs}, INFN|INFN Sez, {labs} {town}"
        )
        forms += f"|{labs} {{di |del |dell |}}INFN, {town}"
        if town != "Sud":  # the town alone tells
            forms += f"|INFN {town}, {labs}|INFN, {town}|INFN {town}|{inst}, {town}|{{Sez|Sezione}} INFN {town}|{inst}, Sez {town}"
            forms += f"|{{Dell |}}INFN {town}, {labs}|INFN {town} {labs}"
        return pick(random, "{" + forms + "}")
    if kind < 0.5 and structure.code == "TIFPA" and random.random() < 0.5:
        return pick(
            random,
            "{" + f"INFN, Trento|INFN Trento|{inst}, Trento|{inst}, {{Sez|Grp Coll}} Trento|INFN Trento Grp" + "}",
        )
    pairs = f"{inst}, {name}|{inst}, {name}|{name}, {inst}|{name} {inst}|{inst} {name}|{name} of {inst}|{name}|{name}|{name}"
    return random.choice(pairs.split("|"))


def _infn_group(random: Random, structure: Structure, place: str) -> str:
    inst, parent = institute(random), pick(random, structure.parent)
    coll = pick(
        random,
        "{Grp Coll{|.|egato}|Gruppo Coll{|egato|.}|Gruppo Collegato|Gr Coll|Associated {Grp|Group}|Grp Associated|Grp|Gruppo|Grp Collegati}",
    )
    here = f"{coll} {pick(random, '{|di }')}{place}"
    if random.random() < 0.25 and coll.startswith("Associated"):
        here = f"{place} {coll}"
    above = _section(random, parent)
    return random.choice(
        (
            f"{inst}, {here}",
            f"{inst}, {here}",
            f"{inst} {here}",
            f"{here}, {inst}",
            f"INFN {here}",
            f"{here} INFN",
            f"{coll} INFN {place}",
            f"INFN {place}",
            f"{inst}, {place}",
            f"{inst}, {above}, {here}",
            f"{inst}, {here}, {above}",
            f"INFN, {above}, {here}",
            f"INFN {parent} {here}",
            f"INFN-{place}",
        )
    )


def named(random: Random, structure: Structure) -> str:
    """Institute and structure."""
    place = pick(random, structure.place)
    if structure.kind == "group":
        return _infn_group(random, structure, place)
    if structure.kind == "lab":
        return _infn_laboratory(random, structure, place)
    return _infn_section(random, place)


def _plain(random: Random, structure: Structure) -> list[str]:
    return [named(random, structure), *_where(random, structure)]


def _where(random: Random, structure: Structure, *, sure: bool = False) -> list[str]:
    """Street, town and country, any of them missing; the town not if it must be `sure`."""
    street, town = address(random, structure.streets) if random.random() < 0.5 else ("", "")
    city = "" if town and random.random() < 0.8 else pick(random, structure.city)
    if not sure and random.random() < 0.12:
        city = ""
    return [street, town, city, country(random)]


def _after_university(random: Random, structure: Structure) -> list[str]:
    surroundings = [_university(random, structure)]
    if random.random() < 0.6:
        surroundings.insert(random.randrange(2), department(random, structure))
    return [*surroundings, named(random, structure), *_where(random, structure)]


def _before_university(random: Random, structure: Structure) -> list[str]:
    surroundings = [_university(random, structure)]
    if random.random() < 0.6:
        surroundings.insert(random.randrange(2), department(random, structure))
    return [named(random, structure), *surroundings, *_where(random, structure)]


def _with_department(random: Random, structure: Structure) -> list[str]:
    parts = [named(random, structure), department(random, structure)]
    if random.random() < 0.4:
        parts.reverse()
    return [*parts, *_where(random, structure)]


def _university_and_institute(random: Random, structure: Structure) -> list[str]:
    """ "Univ Pisa & INFN, Pisa": the town is said once; the university tells which structure it is."""
    inst = institute(random)
    link = random.choice((" & ", " and ", "/", " - ", ", ", ", ", " e ", "-"))
    univ = _university(random, structure)
    if structure.kind == "lab":
        return [univ + link + named(random, structure), *_where(random, structure, sure=True)]
    if random.random() < 0.4:
        return [department(random, structure), univ + link + inst, *_where(random, structure, sure=True)]
    pair = [univ, inst] if random.random() < 0.75 else [inst, univ]
    return [link.join(pair), *_where(random, structure, sure=True)]


def _street_tells(random: Random, structure: Structure) -> list[str]:
    """The institute and an address; the street tells which structure it is."""
    street, code, town = (pick(random, part) for part in random.choice(structure.streets))
    first = pick(random, random.choice(structure.names)) if structure.kind == "lab" else institute(random)
    line = random.choice((f"I-{code} {town}", f"I-{code} {town}", f"{code} {town}", town))
    return [first, street, line, country(random)]


def _second_affiliation(random: Random, structure: Structure) -> list[str]:
    """Another institute before or after, which is not of INFN."""
    other = pick(random, OTHERS)
    if random.random() < 0.5:
        home = random.choice(SECTIONS)
        name, part = pick(random, GUESTS), pick(random, OTHER_DEPARTMENTS)
        if random.random() < 0.5:
            name, part = pick(random, random.choice(home.universities)), department(random, home)
        other = join(random, [name, part, pick(random, home.city), country(random)])
    own = join(random, random.choice((_plain, _plain, _after_university))(random, structure))
    pair = [own, other] if random.random() < 0.5 else [other, own]
    return [random.choice(("; ", "; ", " and ", " & ", ". ", " / ")).join(pair)]


def _foreign_university(random: Random, structure: Structure) -> list[str]:
    """A university of another town, whose physicists belong to this structure."""
    guest = pick(random, GUESTS)
    own = (
        _infn_section(random, pick(random, structure.place))
        if structure.kind == "section"
        else named(random, structure)
    )
    parts = [guest, own, *_where(random, structure)]
    if random.random() < 0.5:
        parts.insert(1, department(random, structure))
    return parts


SHAPES: tuple[tuple[Callable[[Random, Structure], list[str]], float], ...] = (
    (_plain, 40),
    (_after_university, 18),
    (_before_university, 9),
    (_with_department, 8),
    (_university_and_institute, 9),
    (_street_tells, 4),
    (_second_affiliation, 7),
    (_foreign_university, 5),
)


def positive(random: Random, structure: Structure) -> str:
    """An affiliation of this structure."""
    shape = random.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    return join(random, shape(random, structure))

# ruff: noqa: E501 -- tables of choices, one a line
"""The national laboratories and centres of INFN."""

from examples.affiliations.structure import Structure, university


def laboratory(acronym: str, place: str, *, preposition: str = "di") -> tuple[str, ...]:
    """The usual names of national laboratories, each enough by itself. The acronym comes often: it is what people write."""
    return (
        "{"
        + f"Lab{{|s}} {{Nazl|Nazl|Naz|Nazionali}} {{|{preposition} }}{place}|Laboratori Nazl {{|{preposition} }}{place}"
        + "}",
        f"Laborator{{i|io}} Nazional{{i|e}} {preposition} {place}",
        "{"
        + f"{place} Natl Lab{{|s}}|{place} National Laborator{{y|ies}}|Natl Lab{{|s}} {place}|National Laborator{{y|ies}} of {place}"
        + "}",
        acronym,
        f"{{Lab Nazl|Laboratori Nazionali|Natl Lab{{|s}}}} {{|{preposition} }}{place} {{{acronym}|({acronym})|- {acronym}}}",
        f"{acronym}{{, |, | - | }}{{Lab{{|s}} Nazl|Laboratori Nazionali|Natl Lab{{|s}}}} {{|{preposition} }}{place}",
    )


LABORATORIES = (
    Structure(
        "LNF",
        "lab",
        "Frascati",
        "{Frascati|Frascati|Frascati, Roma|Frascati, Rome|Roma|Frascati RM|Frascati (Roma)|Rome}",
        ("Univ Roma Tor Vergata", "Univ Roma La Sapienza", "{Ctr Fermi|Museo Storico Fis}", "Univ Marconi"),
        ("{Div Acceleratori|Accelerator Div|Div Ric|DAFNE|Theory Grp}",),
        (
            ("Via {E|Enrico|E.} Fermi {40|54|}", "{00044|00044|00044|00045}", "Frascati{|, Roma|, Rome| (RM)| RM}"),
            ("{CP 13|POB 13|Casella Postale 13}", "00044", "Frascati"),
        ),
        laboratory("LNF", "Frascati"),
        towns="Frascati",
        share=0.75,
    ),
    Structure(
        "LNGS",
        "lab",
        "Gran Sasso",
        "{Assergi|L'Aquila|Laquila|Assergi, L'Aquila|Assergi, AQ|Assergi (AQ)|LAquila|L Aquila}",
        (
            "{Gran Sasso Sci Inst|GSSI|Gran Sasso Science Institute}",
            "Univ {LAquila|Aquila|L'Aquila}",
            "Univ G d'Annunzio",
        ),
        ("{Dipartimento Fis|Dipartimento Sci Fis & Chim|Serv Chim}",),
        (
            ("Via {G|Giovanni|G.} Acitelli 22", "67100", "{Assergi|Assergi, L'Aquila|L'Aquila|Assergi, AQ}"),
            (
                "{SS 17 bis Km 18{|.910|+910}|SS17bis|S.S. 17 bis}",
                "{67010|67100}",
                "{Assergi|Assergi, AQ|Assergi LAquila}",
            ),
        ),
        laboratory("LNGS", "Gran Sasso", preposition="del"),
        towns="{Gran Sasso|Gran Sasso|Assergi}",
        share=0.75,
    ),
    Structure(
        "LNL",
        "lab",
        "Legnaro",
        "{Legnaro|Legnaro|Legnaro, Padova|Legnaro, Padua|Legnaro (PD)|Padova|Legnaro PD}",
        (university("Padova", "Padua"), university("Padova", "Padua")),
        ("{Dipartimento Fis|Div Acceleratori|Dipartimento Fis & Astron}",),
        (
            (
                "{Viale|V.le} {dell'Universit{a|à}|Universit{a|à}|dell Univ|Univ} {2|}",
                "35020",
                "Legnaro{|, Padova| (PD)|, Padua}",
            ),
            ("Via Romea 4", "35020", "Legnaro"),
        ),
        laboratory("LNL", "Legnaro"),
        towns="Legnaro",
    ),
    Structure(
        "CT",
        "lab",
        "Sud",
        "Catania",
        (university("Catania"), "{Univ Enna Kore|Univ Messina}"),
        ("Dipartimento {Fis|di Fisica} & Astron",),
        (("Via {S|Santa|S.} Sofia {62|44}", "95123", "Catania"),),
        (
            "{Lab{|s} {Nazl|Naz} {|del }Sud|Laborator{i|io} Nazional{i|e} del Sud|Laboratori Nazl Sud}",
            "{Southern Natl Lab{|s}|Southern National Laborator{y|ies}|Natl Lab{|s} {South|Sud|Southern}|National Laborator{y|ies} of the South|South Natl Lab}",
            "{LNS, Catania|Lab Nazl Sud LNS|LNS Catania|Laboratori Nazionali del Sud (LNS)|LNS}",
        ),
        acronym="LNS",
        towns="Sud",
        share=0.8,
    ),
    Structure(
        "CNAF",
        "lab",
        "CNAF",
        "{Bologna|Bologna|}",
        (university("Bologna"), "Univ Ferrara"),
        ("{Dipartimento Fis|Tier 1|Tier-1 Comp Ctr}",),
        (("{Viale|V.le} {|C |Carlo }Berti Pichat 6{/2|-2|}", "40127", "Bologna"),),
        (
            "CNAF",
            "{Ctr Nazl|Centro Nazionale|Natl Ctr|National Center|National Centre} CNAF",
            "{Ctr Nazl Ric & Sviluppo Tecnol Informat & Telemat|Centro Nazionale {per la Ricerca e Sviluppo nelle Tecnologie Informatiche e Telematiche|Tecnologie Informatiche e Telematiche}|Natl Ctr {Res & Dev|} Informat {&|and} Telemat Technol}{|, CNAF| CNAF| (CNAF)}",
            "CNAF{| Tier 1| Tier-1| Comp Ctr| Data Center| Natl Ctr| National Center|, Natl Comp Ctr}",
            "CNAF",
        ),
    ),
    Structure(
        "TIFPA",
        "lab",
        "{TIFPA|Trento}",
        "{Trento|Povo|Povo, Trento|Povo, TN|Povo (TN)|Trent}",
        (university("Trento"), "{FBK|Fdn Bruno Kessler|Fondazione Bruno Kessler}", university("Trento")),
        ("Dipartimento {Fis|di Fisica}", "{ECT|European Ctr Theoret Studies Nucl Phys}"),
        (("Via Sommarive 14", "38123", "{Povo|Povo, Trento|Trento|Povo, TN|Povo (TN)}"),),
        (
            "TIFPA",
            "Trento Inst{|itute} {|for }Fundamental Phys{|ics} {&|and} {Applicat|Applications|Appl}{| TIFPA| (TIFPA)}",
            "TIFPA{, |, | - | }Trento Inst{|itute} {|for }Fundamental Phys{|ics} {&|and} {Applicat|Applications}",
            "TIFPA{| Trento| Trento Inst|, Trento}",
        ),
    ),
)

"""The associated groups of INFN, which carry the code of the structure they belong to."""

from examples.affiliations.structure import Street, Structure, university


def group(
    code: str,
    place: str,
    parent: str,
    universities: tuple[str, ...],
    *streets: Street,
    city: str | None = None,
    share: float = 0.25,
) -> Structure:
    departments = ("Dipartimento {Fis|di Fisica}", "Dipartimento {Fis|Ingn|Matemat|Sci|Chim}")
    return Structure(
        code, "group", place, city or place, universities, departments, streets, parent=parent, share=share
    )


GROUPS = (
    group(
        "LNGS",
        "{L'Aquila|LAquila|Aquila|L Aquila}",
        "{LNGS|Gran Sasso}",
        ("Univ {LAquila|Aquila|L'Aquila|degli Studi dell'Aquila}", "University of L'Aquila"),
        ("Via Vetoio{| 48}", "67100", "{L'Aquila|LAquila|Coppito, AQ}"),
    ),
    group(
        "LNF",
        "Cosenza",
        "{LNF|Frascati}",
        ("Univ {Calabria|della Calabria}", "{Universita della Calabria|University of Calabria}"),
        (
            "{Ponte P Bucci|Ponte Pietro Bucci, Cubo 31C|Via P Bucci}",
            "87036",
            "{Rende|Arcavacata di Rende|Arcavacata Rende, Cosenza|Rende, Cosenza|Cosenza}",
        ),
        city="{Cosenza|Cosenza|Rende|Rende, Cosenza|Arcavacata di Rende}",
    ),
    group(
        "PV",
        "Brescia",
        "Pavia",
        (university("Brescia"),),
        ("Via Branze {38|59}", "25123", "Brescia"),
        ("Via Valotti 9", "25133", "Brescia"),
    ),
    group(
        "CT",
        "Messina",
        "Catania",
        (university("Messina"),),
        ("{Viale|V.le} {F Stagno d'Alcontres|Ferdinando Stagno d'Alcontres} 31", "98166", "Messina"),
        ("{Salita Sperone|Ctr da Papardo}{| 31}", "98166", "{Messina|S Agata, Messina}"),
        share=0.3,
    ),
    group(
        "MIB",
        "Parma",
        "{Milano Bicocca|Milano-Bicocca}",
        (university("Parma"),),
        ("{Viale|V.le|Parco Area} {delle Scienze|Sci} 7{/A|A|}", "43124", "Parma"),
    ),
    group(
        "NA",
        "Salerno",
        "{Napoli|Naples}",
        (university("Salerno"),),
        ("Via {Giovanni Paolo|G Paolo} II 132", "84084", "{Fisciano|Fisciano, Salerno|Fisciano (SA)}"),
        ("Via S Allende", "84081", "Baronissi"),
    ),
    group(
        "PI",
        "Siena",
        "Pisa",
        (university("Siena"),),
        ("Via Roma 56", "53100", "Siena"),
        ("Via Banchi {di |}Sotto 55", "53100", "Siena"),
    ),
    group("TS", "Udine", "Trieste", (university("Udine"),), ("Via {delle |}Scienze {206|208}", "33100", "Udine")),
    group(
        "TO",
        "Alessandria",
        "{Torino|Turin}",
        (
            "{Univ Piemonte Orientale|Univ Eastern Piedmont|Universita del Piemonte Orientale}{| A Avogadro| Amedeo Avogadro}",
        ),
        ("{Viale|V.le} {T Michel|Teresa Michel} 11", "15121", "Alessandria"),
    ),
    group(
        "RM1",
        "{Sanita|ISS|Sanità}",
        "{Roma|Rome|Roma 1|Roma1}",
        (
            "{Ist Super Sanita|Istituto Superiore di Sanit{a|à}|ISS|Ist Superiore Sanita}",
            "{Italian Natl Inst Hlth|Istituto Superiore di Sanita (ISS)}",
        ),
        ("{Viale|V.le} Regina Elena 299", "00161", "{Roma|Rome}"),
        city="{Roma|Rome}",
    ),
)

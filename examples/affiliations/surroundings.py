# ruff: noqa: E501 -- tables of choices, one a line
"""Who else stands in an affiliation, beside a structure of INFN or alone."""

OTHERS = (
    "{CERN, Geneva, Switzerland|Univ Oxford, Oxford, England|Max Planck Inst Phys, Munich, Germany|Univ Geneva, Geneva, Switzerland|"
    + (
        "Inst Nucl Phys, Krakow, Poland|Fermilab, Batavia, IL USA|CNRS, Paris, France|Univ Valencia, IFIC, Valencia, Spain|Nikhef, Amsterdam, Netherlands|"
        "INAF, Osservatorio Astron, Italy|CNR, Ist Fis Plasma, Milan, Italy|ENEA, Frascati, Italy|Kyoto Univ, Kyoto, Japan|DESY, Hamburg, Germany|GANIL, Caen, France|GSI, Darmstadt, Germany}"
    )
)
GUESTS = (
    "{Univ Siena|Univ Insubria|Univ Modena|Univ Modena & Reggio Emilia|Univ Urbino|Univ Camerino|Univ Sannio|Univ Foggia|Univ Basilicata|Univ Molise|Univ Palermo|Univ Verona"
    "|Univ Bergamo|Univ Sassari|Univ Tuscia|Univ Cassino|Univ Macerata|Univ Reggio Calabria|Univ Mediterranea|Univ Chieti|Univ Teramo|Univ Ancona|Univ Politecn Marche"
    "|Univ Piemonte Orientale|Univ Brescia|Univ Parma|Univ Udine|Univ Messina|Univ Salerno|Univ Calabria|Univ Magna Graecia|Univ Venezia|Ca Foscari Univ|Politecn Milano"
    "|Politecn Torino|Univ Cattolica Sacro Cuore|Campus Bio Med Univ|Univ Siena|Universita di Siena|University of Siena|University of Palermo|Universita di Modena|Univ Enna Kore}"
)
"""Universities of towns that have no section."""
OTHER_DEPARTMENTS = (
    "{Dipartimento {Biol|Chim|Med|Ingn|Matemat|Informat|Sci Terra|Econ|Sci Politiche|Ingn Informaz|Elettron|Biotecnol|Farm|Ingn Ind|Energia|Sci & Tecnol|Neurosci|Architettura}|"
    "Dept {Chem|Biol|Med|Engn|Math|Informat Engn|Earth Sci|Comp Sci|Econ|Ind Engn|Radiol|Mat Sci|Environm Sci|Pharm|Civil Engn}|Dipartimento di {Chimica|Ingegneria|Biologia|Matematica|Scienze della Terra|Medicina}|"
    "Department of {Chemistry|Engineering|Mathematics|Biology|Computer Science|Medicine}|Fac {Ingn|Med|Sci|Med & Chirurg}|Scuola {Ingn|Dottorato}|Ctr {Eccellenza|Interdipartimentale}|Orto Bot|Bibl Univ|PhD Sch Phys}"
)

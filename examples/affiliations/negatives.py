# ruff: noqa: E501 -- tables of choices, one a line
"""Strings that name no structure of INFN, as near to those that do as they come in databases."""

from collections.abc import Callable
from random import Random

from examples.affiliations.grammar import address, country, join, pick
from examples.affiliations.positives import department, institute
from examples.affiliations.sections import SECTIONS
from examples.affiliations.structure import Structure
from examples.affiliations.structures import STRUCTURES
from examples.affiliations.surroundings import GUESTS, OTHER_DEPARTMENTS

ITALIAN = (
    "{INAF|Ist Nazl Astrofis|INAF Ist Nazl Astrofis|Istituto Nazionale di Astrofisica|Natl Inst Astrophys|Ist Nazl Astrofis INAF}{, | - | }{Osserv{|atorio} Astron{|omico} {|di }@|IASF @|IASF {Milano|Bologna|Palermo|Roma}|Ist Radioastron{|omia}|OA @|IAPS|Ist Astrofis Spaziale|Osservatorio Astrofisico di {Arcetri|Catania|Torino}}, {@, |}@@",
    "INAF{ |-| - }{IASF|OAS|OAR|OATs|OATo|IRA|IAPS|Osserv Astron|Osservatorio} {Milano|Bologna|Roma|Palermo|Torino|Trieste|@}, {I-20133 |I-40129 |I-00133 |}{@|Milan|Bologna|Rome}@@",
    "{Osserv{|atorio}|Osservatorio} {Astron|Astrofis|Astronomico} {|di }{@|Arcetri|Brera|Capodimonte|Monte Porzio}, {INAF, |}{@|Largo E Fermi 5, Firenze|Via E Bianchi 46, Merate}@@",
    "{CNR|Consiglio Nazl Ric|Consiglio Nazionale delle Ricerche|Natl Res Council|CNR, Natl Res Council|Consiglio Nazl Ric CNR}{, | - | }{Ist {Fis Plasma|Nanosci|Foton & Nanotecnol|Sci Atmosfera & Clima|Struttura Mat|Microelettron & Microsistemi|Sistemi Complessi|Officina Mat|Metodol Inorgan|Biofis|Nazl Ottica|Fis Applicata Nello Carrara|Metodol Anal Ambientale}|INO|IFN|ISM|ISC|IMM|SPIN|IFAC|NANOTEC|IOM|ISAC|IEIIT|ISMN|IFP}, {Via Fosso Cavaliere 100, |Via Madonna Piano 10, |Area Ric @, |Via Cozzi 53, |}{@|I-00133 Rome|Sesto Fiorentino|Pozzuoli}@@",
    "{CNR|CNR-}{ |-}{INO|IFN|SPIN|ISM|ISC|IMM|IOM|NANOTEC|INFM|ISAC|IBF|IFAC|IPCF}{|, Sez @|, UOS @|, Unit @|, Sect @}, {@, |}@@",
    "{INFM|INFM|CNR INFM|Ist Nazl Fis Mat|Ist Nazl Fis Mat|Ist Naz Fis Materia|Istituto Nazionale per la Fisica della Materia|Natl Inst Phys Matter|CNISM|CNR-INFM|INFM CNR}{, | - | }{UdR @|Unita @|Unit{|a} {|di }{|Ric }@|SOFT|Democritos|TASC Natl Lab|Lab TASC|Sez @|@}, {Dipartimento Fis, |Univ @, |}@@@",
    "{ENEA|ENEA CR Frascati|ENEA Ctr Ric Frascati|ENEA, CR Frascati|ENEA, Frascati Res Ctr|Assoc EURATOM ENEA Fus|Euratom ENEA|Associazione EURATOM ENEA|ENEA Res Ctr Frascati|ENEA, Ctr Ric Frascati|ENEA C R Frascati|ENEA, Ctr Ric E Clementel|ENEA CR Casaccia|ENEA, UTFUS|ENEA, FSN Dept|ENEA, Fus & Technol Nucl Safety Dept|Ente Nuove Tecnol Energia & Ambiente}, {|CP 65, |Via {E |Enrico |}Fermi 45, |Via E Fermi 27, |Via M Fermi 44, |Lab {Laser|Plasma}, }{Frascati|Frascati|00044 Frascati|I-00044 Frascati|Frascati, Rome|Frascati Roma|Rome|Bologna|Santa Maria Galeria}@@",
    "{ESA|ESA, ESRIN|ESA ESRIN|European Space Agcy|European Space Agency|ESRIN|ESA/ESRIN|ESA-ESRIN}, {|ESRIN, |Via Galileo Galilei, |Via G Galilei, |Largo Galileo Galilei 1, |Earth Observ, }{Frascati|00044 Frascati|I-00044 Frascati|Frascati, Rome|Frascati, Roma}@@",
    "{Univ Roma Tor Vergata, Dipartimento {Biol|Med}|Serco SpA|SERCO|Rhea Grp|RHEA Grp, ESRIN|Telespazio|Telespazio SpA|Progress Syst|Eucentre|CNR, Ist Struttura Mat|CNR IASI|Adv Comp Syst|BIC Lazio|INAF, Osserv Astron Roma|Ist Fis Spazio Interplanetario|IASF|Bibl Lab Ric|SIGMA TAU|Banca Italia}, {Via E Fermi 62, |Via Frascati 33, |Via Bernini 22, |}{Frascati|I-00044 Frascati|I-00040 Monte Porzio Catone|Frascati, Roma}@@",
    "{INGV|Ist Nazl Geofis & Vulcanol|Istituto Nazionale di Geofisica e Vulcanologia|Ist Nazl Geofis|Natl Inst Geophys & Volcanol|INGV, Ist Nazl Geofis & Vulcanol}{, | - | }{Sez @|Sez {Catania|Pisa|Bologna|Roma 1|Roma 2|Milano|Palermo|Napoli}|Sezione di {Pisa|Catania|Bologna|Milano|Roma 1|Roma 2}|Osserv {Etneo|Vesuviano}|Osservatorio {Etneo|Vesuviano}|Ctr Nazl Terremoti}, {Via Vigna Murata 605, |Via U della Faggiola 32, |Via D Creti 12, |Piazza Roma 2, |}{@|Rome|Roma|Pisa|Catania|Bologna|Naples}@@",
    "{ASI|Agenzia Spaziale Italiana|Italian Space Agcy|ASI, Italian Space Agcy|ASI Sci Data Ctr|ASDC|ASI, Space Sci Data Ctr|ASI Space Geodesy Ctr}, {|Via {|del }Politecnico snc, |Viale Liegi 26, |Via G Galilei, |c/o ESRIN, }{Rome|Roma|Frascati|I-00044 Frascati|Matera|00133 Rome}@@",
    "{INRIM|INRiM|Ist Nazl Ric Metrol|Istituto Nazionale di Ricerca Metrologica|Ist Elettrotecn Nazl Galileo Ferraris|IEN Galileo Ferraris}, {|Str Cacce 91, }{|I-10135 }{Torino|Turin}@@",
    "{IIT|Ist Italiano Tecnol|Istituto Italiano di Tecnologia|Italian Inst Technol}, {|Ctr Nanotechnol Innovat NEST, |Via Morego 30, |Ctr Biomol Nanotechnol, |Graphene Labs, }{Genova|Genoa|Lecce|Pisa|Milano|Torino|Rome|I-16163 Genoa}@@",
    "{Scuola Normale Super{|iore}|SNS|Scuola Normale Superiore}{|, NEST|, Lab NEST|, Ctr Math Res Ennio De Giorgi}, {Piazza Cavalieri 7, |Piazza dei Cavalieri 7, |}{Pisa|56126 Pisa|I-56126 Pisa}@@",
    "{SISSA|Int Sch Adv Studies|SISSA ISAS|Scuola Int Super Studi Avanzati|ICTP|Abdus Salam Int Ctr Theoret Phys|Elettra Sincrotrone Trieste|Sincrotrone Trieste|Sincrotrone Trieste SCpA|IFPU|OGS|Ist Nazl Oceanog & Geofis Sperimentale|Elettra - Sincrotrone Trieste SCpA}, {|Via Bonomea 265, |Str Costiera 11, |Area Sci Pk, |SS 14 Km 163.5, |Via Beirut 2, |Borgo Grotta Gigante 42c, }{Trieste|34136 Trieste|I-34149 Trieste|Basovizza|Trieste, TS|Sgonico}@@",
    "{FBK|Fdn Bruno Kessler|Fondazione Bruno Kessler|Bruno Kessler Fdn|ECT|ECT*, European Ctr Theoret Studies Nucl Phys & Rel|Fdn Edmund Mach|INO CNR BEC Ctr|CNR INO, BEC Ctr|Univ Trento, Dipartimento {Fis|Ingn Ind|Matemat}|ITC Irst|Ctr Mat & Microsyst FBK}, {|Via Sommarive {14|18}, |Str Tabarelle 286, }{Trento|Povo|Povo, Trento|I-38123 Trento|I-38123 Povo|Villazzano, TN|Villazzano, Trento}@@",
    "{CINECA|Cineca|Ctr Euromediterraneo Cambiamenti Climat|CMCC|CINECA Interuniv Consortium|CNR, IMM|CNR, Area Ric Bologna|Ctr Nazl Ric HPC|Ctr Nazl Trapianti|GARR|Ist Ortoped Rizzoli|Nomisma|Ctr Protesi INAIL}, {|Via Magnanelli 6/3, |Via P Gobetti 101, |Viale Berti Pichat {3|5}, |Via Magnanelli 6-3, |}{Bologna|Casalecchio di Reno|Casalecchio Reno|I-40129 Bologna|40127 Bologna}@@",
    "{Ctr Fermi|Centro Fermi|Museo Storico Fis & Ctr Studi & Ric Enrico Fermi|Museo Storico della Fisica e Centro Studi e Ricerche Enrico Fermi|Enrico Fermi Res Ctr|Ctr Ric Enrico Fermi|CREF}, {|Piazza {|del }Viminale 1, |Via Panisperna 89A, |Compendio Viminale, }{Roma|Rome|I-00184 Rome|00184 Roma}@@",
    "{CNAO|Fdn CNAO|Fondazione CNAO|Ctr Nazl Adroterapia Oncol|National Center for Oncological Hadrontherapy|Natl Ctr Oncol Hadrontherapy|IUSS|IRCCS Fdn San Matteo|Univ Pavia, LENA|LENA, Univ Pavia|Fdn CNAO, Phys Dept}, {|Str Campeggi 53, |Via Aselli 41, |Str Privata Campeggi, }{Pavia|I-27100 Pavia|27100 Pavia}@@",
    "{Ist Super Sanita|Istituto Superiore di Sanita|ISS|Ist Super Sanità|Natl Inst Hlth|Italian Natl Inst Hlth}{|, Dept Technol & Hlth|, Dipartimento Tecnol & Salute|, Natl Ctr Radiat Protect|, Dept Infect Dis|, Ctr Nazl AIDS}, {|Viale Regina Elena 299, }{Roma|Rome|00161 Roma|I-00161 Rome}@@",
    "{Gran Sasso Sci Inst|GSSI|Gran Sasso Science Institute|Univ {Aquila|LAquila|L'Aquila}|University of L'Aquila|INGV|INAF, Osserv Astron Abruzzo|Parco Nazl Gran Sasso & Monti Laga|Gran Sasso Natl Pk|Ente Parco Nazionale del Gran Sasso|Gran Sasso Sci Inst GSSI}{|, Dipartimento Fis|, Dept Math|, Dipartimento Sci Fis & Chim}, {|Viale F Crispi 7, |Via Vetoio, |}{L'Aquila|LAquila|I-67100 LAquila|Assergi|67100 L'Aquila}@@",
    "{Univ Padova, {Agripolis|Dipartimento {TESAF|Agron|DAFNAE|Sci Anim}}|Univ Padua, Agripolis|Veneto Agr|Ist Zooprofilatt Sperimentale Venezie|Ist Zooprofilattico Sperimentale delle Venezie|Consorzio RFX|RFX Consortium|CNR, IGI|CNR IGI|Corte Benedettina}, {|Viale Univ {10|16}, |Viale dell'Universita 10, |Corso Stati Uniti 4, }{Legnaro|Legnaro, Padova|I-35020 Legnaro|Legnaro, PD|Padova|Padua|35127 Padova}@@",
    "{Osped {San Raffaele|Niguarda|Maggiore|Careggi|Civile}|Ospedale {San Raffaele|Maggiore|Niguarda|Civile|Policlinico}|Azienda Osped {Univ|Policlin} @|AOU {Pisana|Careggi|San Martino}|Policlin {Gemelli|Umberto I|San Matteo|Tor Vergata}|IRCCS {Ist Nazl Tumori|San Martino|Fdn Ca Granda|Regina Elena}|Ist Nazl Tumori|Ist Nazl Tumori Fdn G Pascale|Ist Nazl Neurol Carlo Besta|Ist Oncol Veneto|Ist Europeo Oncol|Ist Nazl Ric Canc|Ist Nazl Malattie Infett}{|, Dipartimento Fis Sanit|, Fis Med|, Med Phys Unit|, U.O. Fisica Sanitaria|, Dept Radiol}, {@|Milan|Rome|Genoa}@@",
    "{STMicroelectronics|ST Microelectronics|CAEN SpA|CAEN|CAEN S.p.A.|Ansaldo Nucl|Ansaldo Energia|Thales Alenia Space|Thales Alenia Space Italia|Leonardo SpA|Selex ES|Pirelli Labs|Eni SpA|ASG Superconductors|Carlo Gavazzi Space|OHB Italia|CGS SpA|Alenia Spazio|Fiat Res Ctr|Ctr Ric Fiat|Nucl Instruments SRL|Kayser Italia|Planetek Italia|Sitael|Enel|SIT Technol|AMS srl|Else Nucl}{|, R&D}, {Via Vetraia 11, |Via Stradale Primosole 50, |Via Gallarate 150, |}{@|Catania|Viareggio|Milan|Genoa|Turin|Agrate Brianza}@@",
    "{Ist Nazl {Alta Matemat|Alta Matemat Francesco Severi|Ric Alimenti & Nutr|Econ Agr|Stat|Statist|Fis Mat|Geofis|Ottica|Ottica Applicata|Ric Metrol|Oceanog & Geofis Sperimentale|Biostruct & Biosist}|Istituto Nazionale di {Ottica|Geofisica|Statistica|Alta Matematica}|INdAM|INDAM|INSTM|INOA|INBB|ISTAT|INEA|INAIL|INRAN|INAPP|INVALSI|INPS}{|, Sez @|, Unita Ric @|, UdR @|, Unit @}, {|Univ @, |}{@|Rome|Florence}@@",
    "{JRC|European Commiss|European Commiss, Joint Res Ctr|European Commission, Joint Research Centre|EC JRC}, {Inst Transuranium Elements, |Nucl Secur Unit, |}{Ispra|I-21027 Ispra|Ispra, VA|Ispra, Varese}@@",
    "{Politecn|Politecnico di|Polytech|Polytech Univ} {Torino|Milano|Turin|Milan|Bari}{|, Dipartimento {Fis|Energia|Elettron|Energet|Ingn Nucl}|, Dept {Energy|Phys|Appl Sci & Technol|Nucl Engn}|, CeSNEF|, Ctr Studi Nucl E Fermi}, {|Corso Duca Abruzzi 24, |Piazza L da Vinci 32, |Via Ponzio 34-3, |Via E Orabona 4, |Via La Masa 34, }{Torino|Milano|Turin|Milan|Bari}@@",
    "{Lab Nazl {TASC|Luci Sincrotrone|Meteorol|Idraul|Biotecnol|Farmacol|Spettroscopia|Rif}|Laboratorio Nazionale {TASC|di Metrologia|CIB|AIMAGN}|European Lab Nonlinear Spect|LENS|Natl Enterprise Nanosci & Nanotechnol|NEST|NNL|Natl Nanotechnol Lab|Natl Nanotechnol Lab NNL|Lab Nazl Nanotecnol|Lab TASC INFM|Lab Nazl CIB|Lab Subnucl Phys}{|, CNR|, INFM|, CNR INFM}, {@|Trieste|Sesto Fiorentino|Lecce|Pisa|Basovizza}@@",
    "{Dipartimento {Fis Nucl|Fis Nucl & Teor|Fis Nucl, Subnucl & Radiaz|Fis Teor|Fis Gen|Fis Sperimentale|Sci Fis}|Ist {Fis Nucl|Fis Gen|Fis Teor|Fis Sperimentale}|Istituto di Fisica {|Nucleare|Teorica}|Inst {Phys|Theoret Phys|Nucl Phys}|Dept Nucl & Theoret Phys}{, | }{Univ|Univ Studi|Universita di} @, @@@",
)
FOREIGN = (
    "{CERN|CERN, European Org Nucl Res|European Org Nucl Res|European Organization for Nuclear Research|CERN, European Lab Particle Phys|CERN, Theory Div|CERN, PH Dept|CERN EP|Org Europeenne Rech Nucl}{|, EP Dept|, TH Dept|, Theory Dept}, {|CH-1211 }{Geneva|Geneva 23|Geneve|Geneva, Switzerland|Meyrin}{|, Switzerland|, Switzerland}",
    "{ESRF|European Synchrotron Radiat Facil|ILL|Inst Laue Langevin|Inst Max Von Laue Paul Langevin}, {|BP 220, |6 Rue Jules Horowitz, |71 Ave Martyrs, }{|F-38043 |F-38000 }Grenoble{|, France}",
    "{DESY|Deutsch Elektronen Synchrotron DESY|Deutsch Elektronen Synchrotron|DESY, Theory Grp|Univ Hamburg, Inst Expt Phys|GSI|GSI Helmholtzzentrum Schwerionenforsch|GSI Darmstadt|Forschungszentrum Julich, Inst Kernphys|Karlsruhe Inst Technol, Inst Expt Kernphys|Max Planck Inst {Phys|Kernphys|Nucl Phys|Phys & Astrophys}|Univ {Bonn|Mainz|Cologne|Munster|Frankfurt|Giessen}, Inst {Kernphys|Nucl Phys|Phys}|Tech Univ {Munich|Darmstadt|Dresden}}, {Hamburg|D-22607 Hamburg|Darmstadt|Julich|Munich|Heidelberg|Mainz|Bonn}, Germany",
    "{IHEP|Inst High Energy Phys|Institute of High Energy Physics|IHEP, CAS|Chinese Acad Sci, Inst High Energy Phys|Inst High Energy Phys, Chinese Acad Sci|Chinese Acad Sci, Inst {Modern Phys|Nucl Phys|Theoret Phys}|Peking Univ, Sch Phys|China Inst Atom Energy|Tsinghua Univ, Dept Phys|Shanghai Inst Nucl Res|Univ Sci & Technol China}, {Beijing|Beijing 100049|Lanzhou|Shanghai|Hefei}, {Peoples R China|China|P.R. China}",
    "{Horia Hulubei {Natl Inst {Phys & Nucl Engn|for Physics and Nuclear Engineering|Nucl Phys & Engn}|Inst}|Natl Inst Phys & Nucl Engn|Natl Inst Phys & Nucl Engn Horia Hulubei|IFIN HH|IFIN-HH|National Institute of Physics and Nuclear Engineering|National Institute for Nuclear Physics and Engineering|Natl Inst Nucl Phys & Engn|Inst Atom Phys|ELI-NP|Extreme Light Infrastruct Nucl Phys ELI NP}, {|Dept Nucl Phys, |POB MG-6, }{Bucharest|Magurele|Bucharest Magurele|R-76900 Bucharest}, Romania",
    "{IN2P3|CNRS IN2P3|CNRS, IN2P3|IN2P3 CNRS|Inst Natl Phys Nucl & Phys Particules|Natl Inst Nucl & Particle Phys|CNRS, Natl Inst Nucl & Particle Phys|National Institute of Nuclear and Particle Physics|Inst Phys Nucl|IPN Orsay|IPN|Lab {Accelerateur Lineaire|Phys Subatom & Cosmol|Leprince Ringuet|Annecy Le Vieux Phys Particules}|CEA Saclay|CEA, IRFU|LAL|LAPP|LPNHE|Univ Paris 11, IPN|Univ Paris Saclay|GANIL|Grand Accelerateur Natl Ions Lourds|Lab Natl Henri Becquerel|Synchrotron SOLEIL}, {|CNRS, |IN2P3, |Univ Paris Sud, }{Orsay|Paris|F-91406 Orsay|Lyon|Caen|Grenoble|Annecy|Villeurbanne|Gif Sur Yvette}, France",
    "{NIKHEF|Nikhef|Natl Inst {Subatom Phys|Nucl Phys & High Energy Phys}|Nikhef Natl Inst Subatom Phys|National Institute for Subatomic Physics|National Institute for Nuclear Physics and High Energy Physics|FOM, NIKHEF|Natl Inst Nucl & High Energy Phys|KVI|Kernfys Versneller Inst|Univ Groningen, KVI}, {|Sci Pk, |Kruislaan 409, |Univ Amsterdam, }{Amsterdam|NL-1098 SJ Amsterdam|1098 XG Amsterdam|Groningen}, {Netherlands|The Netherlands}",
    "{Budker Inst Nucl Phys|BINP|Budker Inst Nucl Phys SB RAS|Inst Nucl Phys|Joint Inst Nucl Res|JINR|Russian Acad Sci, Inst Nucl Res|Inst Nucl Res|Inst Theoret & Expt Phys|ITEP|Skobeltsyn Inst Nucl Phys|Lomonosov Moscow State Univ, Skobeltsyn Inst Nucl Phys|Petersburg Nucl Phys Inst|Natl Res Nucl Univ MEPhI|Natl Res Ctr Kurchatov Inst|Inst High Energy Phys|Frank Lab Neutron Phys|Bogoliubov Lab Theoret Phys}, {|RAS, |SB RAS, }{Novosibirsk|Novosibirsk 630090|Dubna|Dubna 141980|Moscow|Gatchina|Protvino|St Petersburg}, {Russia|Russian Federation}",
    "{Inst Nucl Phys|H Niewodniczanski Inst Nucl Phys|Henryk Niewodniczanski Inst Nucl Phys|Polish Acad Sci, Inst Nucl Phys|Institute of Nuclear Physics PAN|Inst Nucl Phys PAN|IFJ PAN|Natl Ctr Nucl Res|Soltan Inst Nucl Studies|Andrzej Soltan Inst Nucl Studies|Univ Warsaw, Inst {Expt Phys|Theoret Phys}|Jagiellonian Univ, Inst Phys|Heavy Ion Lab}, {|PAN, |Radzikowskiego 152, }{Krakow|Cracow|PL-31342 Krakow|Warsaw|Otwock|Swierk}, Poland",
    "{Natl Inst Nucl Phys|National Institute of Nuclear Physics|Inst Nucl Phys|Institute of Nuclear Physics|Ctr Appl Nucl Phys|National Institute for Nuclear Research|Natl Inst Nucl Res|Natl Ctr Nucl Phys|Inst Appl Nucl Phys|Natl Nucl Ctr|Natl Inst Phys|Natl Inst {Nucl Sci & Technol|Nucl Invest|Radioelements|Nucl Phys & Technol}|Inst Nucl Res & Nucl Energy|Inst Nacl Invest Nucl|ININ|Inst Kernphys}, {|Dept Phys, }{Tirana, Albania|Almaty, Kazakhstan|Alma Ata, Kazakhstan|Tashkent, Uzbekistan|Sofia, Bulgaria|Debrecen, Hungary|Kiev, Ukraine|Mexico City, Mexico|Lisbon, Portugal|Ljubljana, Slovenia|Athens, Greece|Baku, Azerbaijan|Hanoi, Vietnam|Algiers, Algeria|Havana, Cuba|Minsk, BELARUS|Madrid, Spain|Kolkata, India|Rez, Czech Republic|Prague, Czech Republic|Vienna, Austria|Canterbury, England}",
    "{Saha Inst Nucl Phys|Tata Inst Fundamental Res|Tata Inst Fundamental Research|Bhabha Atom Res Ctr|Variable Energy Cyclotron Ctr|Inst Phys|Nucl Phys Div, BARC|Natl Inst Sci Educ & Res|Phys Res Lab}, {Kolkata|Kolkata 700064|Mumbai|Calcutta|Bombay|Bhubaneswar}, {India|W Bengal, India}",
    "{Brookhaven|Lawrence Berkeley|Oak Ridge|Argonne|Los Alamos|Lawrence Livermore|Pacific NW|Sandia|Idaho|SLAC|Fermi} Natl {Lab|Accelerator Lab|Labs}{|, Div Phys|, Nucl Sci Div|, Dept Phys}, {Upton, NY 11973|Berkeley, CA 94720|Oak Ridge, TN|Argonne, IL|Los Alamos, NM|Livermore, CA|Batavia, IL 60510|Menlo Pk, CA} {USA|USA|United States}",
    "{Fermi Natl Accelerator Lab|Fermilab|Fermilab Natl Accelerator Lab|FNAL|Enrico Fermi Inst|Univ Chicago, Enrico Fermi Inst|Univ Chicago, Enrico Fermi Inst Nucl Studies|Thomas Jefferson Natl Accelerator Facil|Jefferson Lab|Natl Superconducting Cyclotron Lab|Michigan State Univ, Natl Superconducting Cyclotron Lab|MIT, Nucl Sci Lab|TRIUMF|Inst Nucl Theory|Natl Inst Stand & Technol|Univ Washington, Inst Nucl Theory}, {POB 500, |}{Batavia, IL|Chicago, IL|Newport News, VA|E Lansing, MI|Cambridge, MA|Vancouver, BC|Seattle, WA} {USA|Canada}",
    "{KEK|High Energy Accelerator Res Org KEK|High Energy Accelerator Res Org|Natl Lab High Energy Phys|RIKEN|RIKEN Nishina Ctr|Natl Inst Radiol Sci|Osaka Univ, Nucl Phys Res Ctr|Univ Tokyo, Inst Cosm Ray Res|Kyoto Univ, Yukawa Inst Theoret Phys|Natl Inst Fus Sci|Kamioka Observ|Japan Atom Energy Agcy}, {Tsukuba|Tsukuba, Ibaraki|Wako, Saitama|Osaka|Kyoto|Chiba|Gifu}, Japan",
    "{Rutherford Appleton Lab|STFC, Rutherford Appleton Lab|STFC Daresbury Lab|Univ {Oxford|Cambridge|Glasgow|Edinburgh|Liverpool|Manchester|Durham|Birmingham|London Imperial Coll Sci Technol & Med|Surrey|York}|Univ Coll London|Natl Phys Lab|Diamond Light Source}{|, Dept Phys|, Sch Phys & Astron|, Cavendish Lab|, Blackett Lab}, {Didcot|Oxford|London|Glasgow|Liverpool|Manchester|Warrington|Teddington}, {England|UK|Scotland|United Kingdom}",
    "{IFIC|Univ Valencia, Inst Fis Corpuscular|CSIC, Inst Fis Corpuscular IFIC|Inst Fis Corpuscular|Inst Fis Altes Energies|IFAE|CIEMAT|Univ {Barcelona|Autonoma Madrid|Santiago Compostela|Granada|Zaragoza|Sevilla|Complutense Madrid}|Lab Subterraneo Canfranc|Inst Estruct Mat|Ctr Nacl Aceleradores|Inst Nacl Tecn Aerosp}{|, Dept {Fis|Fis Teor|Fis Atom Mol & Nucl|Fis Nucl}}, {Valencia|Madrid|Barcelona|Bellaterra|Seville}, Spain",
    "{LIP|Lab Instrumentacao & Fis Expt Particulas|Inst Tecnol & Nucl|Univ {Lisbon|Coimbra|Porto}|Ctr Fis Nucl|Univ Lisbon, Ctr Fis Nucl|Univ Sao Paulo, Inst Fis|Ctr Brasileiro Pesquisas Fis|Lab Nacl Luz Sincrotron|Comissao Nacl Energia Nucl|Inst Pesquisas Energet & Nucl|Lab Nacl Comp Cient}{|, Dept Fis|, Dept Fis Nucl}, {Lisbon|Coimbra|P-1649003 Lisbon|Sao Paulo|Rio De Janeiro|Campinas}, {Portugal|Brazil}",
    "{Paul Scherrer Inst|PSI|ETH|Swiss Fed Inst Technol|EPFL|Univ {Geneva|Bern|Basel|Zurich|Lausanne}|Univ {Vienna|Innsbruck}|HEPHY|Austrian Acad Sci, Inst High Energy Phys|Stefan Meyer Inst}{|, Dept Phys|, Inst Theoret Phys|, Inst Nucl Phys}, {Villigen|Zurich|Geneva|Bern|Vienna}, {Switzerland|Austria}",
    "{Univ|Tech Univ|State Univ} {Helsinki|Stockholm|Uppsala|Lund|Oslo|Bergen|Copenhagen|Aarhus|Athens|Crete|Ioannina|Zagreb|Belgrade|Ljubljana|Prague|Brno|Bratislava|Budapest|Sofia|Bucharest|Ankara|Istanbul|Tel Aviv|Cairo|Melbourne|Sydney|Toronto|Montreal|Buenos Aires|Florida|Texas|Wisconsin|Michigan|Iowa|Rome|Pisa}, {Dept Phys|Inst Nucl Phys|Dept Nucl Phys|Inst Phys|Fac Sci|Phys Dept|Dept Phys & Astron}{|, Finland|, Sweden|, Norway|, Denmark|, Greece|, Croatia|, Serbia|, Turkey|, Israel|, Australia|, Canada|, USA}",
)


def _town(random: Random) -> str:
    return pick(random, random.choice(STRUCTURES).city).split(",")[0] or "Bologna"


def _fill(random: Random, template: str) -> str:
    """`@` is a town of INFN, the same throughout; `@@` at the end the country."""
    town = _town(random)
    end = country(random)
    body = template.removesuffix("@@")
    text = pick(random, body).replace("@", town)
    if body != template and end:
        text += f", {end}"
    return text


def _university(random: Random, structure: Structure) -> str:
    """A department in a town of INFN, at the very address of the structure: everything but the institute."""
    name = pick(random, random.choice(structure.universities))
    if random.random() < 0.06:  # a physicist of another town's university, a guest there
        name = pick(random, GUESTS)
    parts = [name]
    if random.random() < 0.85:
        physics = random.random() < 0.65
        parts.insert(
            random.choice((0, 1, 1)), department(random, structure) if physics else pick(random, OTHER_DEPARTMENTS)
        )
    street, town = address(random, structure.streets) if random.random() < 0.5 else ("", "")
    city = (
        ""
        if town and random.random() < 0.8
        else pick(random, structure.city if random.random() < 0.93 else "{Pisa|Milan|Rome|Turin|Trento|Naples}")
    )
    return join(random, [*parts, street, town, city, country(random)])


def _at_university(random: Random) -> str:
    while True:
        structure = random.choice(STRUCTURES)
        if structure.kind != "lab" or structure.code in ("TIFPA", "CT"):
            return _university(random, structure)


def _only_place(random: Random) -> str:
    """Little more than an address: nobody can tell whose."""
    structure = random.choice(SECTIONS)
    street, town = address(random, structure.streets)
    return join(
        random,
        [
            pick(random, "{|Dipartimento Fis|Dept Phys|Ist Fis|Fac Sci|Phys Dept|Osservatorio|Lab Fis}"),
            street,
            town,
            pick(random, structure.city),
            "Italy",
        ],
    )


def _nowhere(random: Random) -> str:
    """The institute, but none of its structures."""
    return join(
        random, [institute(random), pick(random, "{|Italy|Italy|Italia|Univ Studi|Europe}"), pick(random, "{|Italy}")]
    )


def _italian(random: Random) -> str:
    return _fill(random, random.choice(ITALIAN))


def _foreign(random: Random) -> str:
    return pick(random, random.choice(FOREIGN))


def _two(random: Random) -> str:
    kinds = (_at_university, _italian, _foreign)
    first, second = random.choice(kinds)(random), random.choice(kinds)(random)
    return random.choice(("; ", "; ", " and ", " & ", ". ", " / ")).join((first, second))


def _guest(random: Random) -> str:
    """A university and another institute of the same town."""
    structure = random.choice(SECTIONS)
    other = pick(
        random,
        "{INAF|CNR|CNR, IFN|INGV|INFM|CNISM|INSTM|ENEA|INDAM|IIT|INRIM|GSSI|SISSA|CSDC|LENS|Ctr Fermi|CIRPS|CINFAI|ICRANet|ICRA}",
    )
    link = random.choice((" & ", " and ", ", ", ", ", " - "))
    name = pick(random, random.choice(structure.universities))
    pair = [name, other] if random.random() < 0.6 else [other, name]
    return join(
        random,
        [
            link.join(pair),
            department(random, structure) if random.random() < 0.5 else "",
            pick(random, structure.city),
            country(random),
        ],
    )


SHAPES: tuple[tuple[Callable[[Random], str], float], ...] = (
    (_at_university, 36),
    (_italian, 32),
    (_foreign, 20),
    (_two, 7),
    (_guest, 4),
    (_only_place, 1),
    (_nowhere, 0.3),
)


def negative(random: Random) -> str:
    """An affiliation of none of the structures."""
    shape = random.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    return shape(random)

"""English words and phrases with their French ones, by category. A table and its reader, no task.

Nouns stand without an article, verbs in the infinitive, adjectives in the masculine singular. Left
out are words that are spelled alike in both languages, and English words with several French ones
that are no synonyms. After a bar stand synonyms that are as good an answer as the first.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """An English word or phrase, its French one, and French synonyms of that."""

    category: str
    english: str
    french: str
    synonyms: tuple[str, ...] = ()


_TABLE: dict[str, str] = {
    "animals": """
        dog = chien; cat = chat; horse = cheval; cow = vache; pig = cochon | porc; sheep = mouton;
        goat = chèvre; hen = poule; rooster = coq; duck = canard; goose = oie; rabbit = lapin;
        mouse = souris; squirrel = écureuil; fox = renard; wolf = loup; bear = ours;
        monkey = singe; elephant = éléphant; giraffe = girafe; zebra = zèbre; tiger = tigre;
        camel = chameau; donkey = âne; snake = serpent; lizard = lézard; frog = grenouille;
        turtle = tortue; fish = poisson; shark = requin; whale = baleine; dolphin = dauphin;
        octopus = pieuvre | poulpe; crab = crabe; lobster = homard; bird = oiseau; eagle = aigle;
        owl = hibou | chouette; parrot = perroquet; swan = cygne; penguin = manchot | pingouin;
        bee = abeille; ant = fourmi; butterfly = papillon; spider = araignée;
        mosquito = moustique; snail = escargot; worm = ver; hedgehog = hérisson;
        lamb = agneau; bat = chauve-souris; peacock = paon; ostrich = autruche; turkey = dinde;
        salmon = saumon; oyster = huître; mussel = moule; shrimp = crevette""",
    "food": """
        bread = pain; butter = beurre; cheese = fromage; milk = lait; egg = œuf; cream = crème;
        ham = jambon; meat = viande; beef = bœuf; rice = riz; flour = farine; sugar = sucre;
        salt = sel; oil = huile; vinegar = vinaigre; mustard = moutarde;
        honey = miel; jam = confiture; cake = gâteau; chocolate = chocolat; soup = soupe;
        ice cream = glace | crème glacée; salad = salade; sausage = saucisse; chicken = poulet;
        apple = pomme; pear = poire; peach = pêche; cherry = cerise; strawberry = fraise;
        raspberry = framboise; grape = raisin; lemon = citron; banana = banane;
        pineapple = ananas; plum = prune; apricot = abricot; watermelon = pastèque; fig = figue;
        grapefruit = pamplemousse; walnut = noix; hazelnut = noisette; almond = amande;
        tomato = tomate; potato = pomme de terre | patate; carrot = carotte; onion = oignon;
        garlic = ail; cabbage = chou; cauliflower = chou-fleur; lettuce = laitue | salade;
        cucumber = concombre; mushroom = champignon; leek = poireau; corn = maïs; wheat = blé;
        pumpkin = citrouille | potiron; parsley = persil; cinnamon = cannelle; water = eau;
        wine = vin; beer = bière; tea = thé; coffee = café; juice = jus; cider = cidre;
        breakfast = petit déjeuner; lunch = déjeuner; dinner = dîner; pancake = crêpe""",
    "travel": """
        boarding = embarquement; airport = aéroport; plane = avion;
        train station = gare; suitcase = valise; luggage = bagages; passport = passeport;
        flight = vol; departure = départ; arrival = arrivée; delay = retard; customs = douane;
        border = frontière; car = voiture | auto | automobile; bicycle = vélo | bicyclette;
        motorbike = moto | motocyclette; truck = camion | poids lourd; boat = bateau;
        harbour = port; subway = métro; road = route; street = rue; motorway = autoroute;
        bridge = pont; journey = voyage | trajet; hotel = hôtel; inn = auberge;
        key = clé | clef; lift = ascenseur; stairs = escalier | escaliers;
        tourist = touriste; driver = conducteur | chauffeur; pilot = pilote;
        traveller = voyageur; passenger = passager; petrol = essence; tyre = pneu; wheel = roue;
        engine = moteur; brake = frein; helmet = casque; landing = atterrissage;
        takeoff = décollage; crossroads = carrefour; roundabout = rond-point;
        pavement = trottoir; tent = tente; backpack = sac à dos; embassy = ambassade;
        booking = réservation; wallet = portefeuille; lighthouse = phare; sailor = marin;
        crew = équipage; anchor = ancre; rocket = fusée; helicopter = hélicoptère; exit = sortie;
        entrance = entrée; speed = vitesse""",
    "places": """
        house = maison; school = école; church = église; hospital = hôpital;
        library = bibliothèque; bookshop = librairie; bakery = boulangerie;
        pharmacy = pharmacie; bank = banque; market = marché; shop = magasin | boutique;
        supermarket = supermarché; cinema = cinéma; theatre = théâtre; museum = musée;
        castle = château; factory = usine; farm = ferme; stadium = stade;
        swimming pool = piscine; city = ville; town hall = mairie | hôtel de ville;
        office = bureau; kitchen = cuisine; bedroom = chambre | chambre à coucher;
        garden = jardin; wall = mur; roof = toit; door = porte; window = fenêtre; cellar = cave;
        attic = grenier; balcony = balcon; corridor = couloir; cathedral = cathédrale;
        fountain = fontaine; university = université; kingdom = royaume; world = monde;
        suburb = banlieue; cemetery = cimetière; circus = cirque""",
    "things": """
        chair = chaise; bed = lit; lamp = lampe; mirror = miroir | glace; curtain = rideau;
        drawer = tiroir; shelf = étagère; fork = fourchette; knife = couteau;
        spoon = cuillère | cuiller; plate = assiette; glass = verre; cup = tasse;
        bottle = bouteille; bowl = bol; saucepan = casserole; oven = four; towel = serviette;
        fridge = réfrigérateur | frigo; soap = savon; toothbrush = brosse à dents;
        toothpaste = dentifrice; comb = peigne; razor = rasoir; pillow = oreiller;
        blanket = couverture; candle = bougie; umbrella = parapluie; basket = panier;
        box = boîte; bucket = seau; broom = balai; hammer = marteau; screw = vis;
        screwdriver = tournevis; saw = scie; ladder = échelle; rope = corde; needle = aiguille;
        scissors = ciseaux; pen = stylo; pencil = crayon; book = livre; newspaper = journal;
        envelope = enveloppe; computer = ordinateur; keyboard = clavier; screen = écran;
        printer = imprimante; phone = téléphone; toy = jouet; doll = poupée;
        kite = cerf-volant; gift = cadeau; armchair = fauteuil; tap = robinet; shower = douche;
        bathtub = baignoire; shovel = pelle; glue = colle; tablecloth = nappe;
        kettle = bouilloire""",
    "colours": """
        red = rouge; blue = bleu; green = vert; yellow = jaune; black = noir; white = blanc;
        grey = gris; pink = rose; purple = violet | pourpre; brown = marron | brun;
        golden = doré; dark blue = bleu foncé; light green = vert clair""",
    "numbers": """
        one = un; two = deux; three = trois; four = quatre; five = cinq; seven = sept;
        eight = huit; nine = neuf; ten = dix; eleven = onze; twelve = douze; thirteen = treize;
        fourteen = quatorze; fifteen = quinze; sixteen = seize; seventeen = dix-sept;
        eighteen = dix-huit; nineteen = dix-neuf; twenty = vingt; thirty = trente;
        forty = quarante; fifty = cinquante; sixty = soixante; seventy = soixante-dix;
        eighty = quatre-vingts; ninety = quatre-vingt-dix; hundred = cent; thousand = mille;
        zero = zéro; first = premier; third = troisième | tiers; fourth = quatrième;
        fifth = cinquième; sixth = sixième; seventh = septième; eighth = huitième;
        ninth = neuvième; tenth = dixième; dozen = douzaine""",
    "time": """
        Monday = lundi; Tuesday = mardi; Wednesday = mercredi; Thursday = jeudi;
        Friday = vendredi; Saturday = samedi; Sunday = dimanche; January = janvier;
        February = février; April = avril; May = mai; June = juin; July = juillet;
        August = août; September = septembre; October = octobre; November = novembre;
        December = décembre; winter = hiver; summer = été; autumn = automne; day = jour;
        night = nuit; morning = matin; evening = soir; afternoon = après-midi; noon = midi;
        midnight = minuit; week = semaine; month = mois; hour = heure; century = siècle;
        today = aujourd'hui; tomorrow = demain; yesterday = hier; now = maintenant;
        always = toujours; never = jamais; often = souvent; sometimes = parfois | quelquefois;
        soon = bientôt; already = déjà; birthday = anniversaire; Christmas = Noël;
        Easter = Pâques; calendar = calendrier; dawn = aube | aurore""",
    "people": """
        father = père; mother = mère; brother = frère; sister = sœur; son = fils;
        daughter = fille; boy = garçon; man = homme; woman = femme; husband = mari | époux;
        wife = épouse | femme; child = enfant; baby = bébé; uncle = oncle; aunt = tante;
        nephew = neveu; niece = nièce; grandfather = grand-père; grandmother = grand-mère;
        friend = ami | amie; neighbour = voisin | voisine; king = roi; queen = reine;
        princess = princesse; family = famille; thief = voleur; soldier = soldat;
        knight = chevalier; wizard = sorcier | magicien; witch = sorcière; giant = géant;
        ghost = fantôme; enemy = ennemi; doctor = médecin | docteur; baker = boulanger;
        nurse = infirmière | infirmier; butcher = boucher; cook = cuisinier;
        waiter = serveur | garçon; farmer = fermier | agriculteur; fisherman = pêcheur;
        hunter = chasseur; gardener = jardinier; hairdresser = coiffeur | coiffeuse;
        lawyer = avocat; judge = juge; writer = écrivain | auteur; singer = chanteur;
        dancer = danseur; engineer = ingénieur; postman = facteur; firefighter = pompier;
        policeman = policier; dentist = dentiste; plumber = plombier; translator = traducteur;
        student = étudiant; shepherd = berger; mayor = maire; priest = prêtre;
        spy = espion; musician = musicien""",
    "body": """
        head = tête; hair = cheveux; face = visage | figure; eye = œil; ear = oreille; nose = nez;
        mouth = bouche; tooth = dent; tongue = langue; lip = lèvre; neck = cou; throat = gorge;
        shoulder = épaule; arm = bras; elbow = coude; wrist = poignet; hand = main;
        finger = doigt; thumb = pouce; belly = ventre; stomach = estomac; heart = cœur;
        lung = poumon; liver = foie; brain = cerveau; leg = jambe; knee = genou;
        ankle = cheville; foot = pied; toe = orteil; skin = peau; bone = os; blood = sang;
        beard = barbe; cheek = joue; chin = menton; forehead = front;
        fever = fièvre; wound = blessure""",
    "clothes": """
        shirt = chemise; trousers = pantalon; dress = robe; skirt = jupe; coat = manteau;
        jacket = veste | blouson; hat = chapeau; cap = casquette;
        scarf = écharpe | foulard; glove = gant;
        shoe = chaussure; boot = botte; sock = chaussette; belt = ceinture; button = bouton;
        pocket = poche; sleeve = manche; collar = col; glasses = lunettes;
        ring = bague | anneau; necklace = collier; tie = cravate; wool = laine; cotton = coton;
        silk = soie; leather = cuir; velvet = velours; apron = tablier; sandal = sandale;
        slipper = pantoufle | chausson; handkerchief = mouchoir; crown = couronne""",
    "nature": """
        sun = soleil; moon = lune; star = étoile; sky = ciel; cloud = nuage; rain = pluie;
        snow = neige; wind = vent; storm = tempête | orage; thunder = tonnerre;
        lightning = éclair | foudre; fog = brouillard; sea = mer; ocean = océan;
        river = rivière | fleuve; lake = lac; mountain = montagne; hill = colline;
        valley = vallée; forest = forêt; wood = bois; tree = arbre; leaf = feuille;
        branch = branche; root = racine; flower = fleur; grass = herbe; field = champ;
        desert = désert; island = île; beach = plage; sand = sable; stone = pierre;
        volcano = volcan; fire = feu; smoke = fumée; ash = cendre; wave = vague; tide = marée;
        rainbow = arc-en-ciel; shadow = ombre; oak = chêne; willow = saule; tulip = tulipe;
        sunflower = tournesol; moss = mousse; mud = boue; dust = poussière; gold = or;
        iron = fer; copper = cuivre; steel = acier; nest = nid; feather = plume; cliff = falaise;
        north = nord; south = sud; east = est; west = ouest; heat = chaleur""",
    "verbs": """
        to eat = manger; to drink = boire; to sleep = dormir; to walk = marcher; to run = courir;
        to swim = nager; to read = lire; to write = écrire; to speak = parler; to say = dire;
        to see = voir; to hear = entendre; to listen = écouter; to sing = chanter;
        to dance = danser; to play = jouer; to work = travailler; to buy = acheter;
        to sell = vendre; to give = donner; to take = prendre; to open = ouvrir;
        to close = fermer; to begin = commencer | débuter; to finish = finir | terminer;
        to lose = perdre; to find = trouver; to think = penser | réfléchir; to believe = croire;
        to love = aimer | adorer; to die = mourir; to laugh = rire; to cry = pleurer;
        to smile = sourire; to wait = attendre; to arrive = arriver; to come = venir;
        to go = aller; to stay = rester; to fall = tomber; to jump = sauter; to cut = couper;
        to throw = lancer | jeter; to wash = laver; to clean = nettoyer; to learn = apprendre;
        to build = construire | bâtir; to break = casser | briser; to repair = réparer;
        to understand = comprendre; to forget = oublier; to answer = répondre; to help = aider;
        to show = montrer; to hide = cacher; to choose = choisir; to pay = payer;
        to count = compter; to dream = rêver; to breathe = respirer; to push = pousser;
        to pull = tirer; to send = envoyer; to receive = recevoir; to follow = suivre;
        to thank = remercier; to burn = brûler; to dig = creuser; to borrow = emprunter;
        to lend = prêter; to hope = espérer; to want = vouloir; to sew = coudre;
        to touch = toucher; to bite = mordre; to melt = fondre""",
    "adjectives": """
        big = grand | gros; small = petit; narrow = étroit; high = haut; low = bas;
        deep = profond; heavy = lourd; fast = rapide; slow = lent; strong = fort; weak = faible;
        new = nouveau | neuf; old = vieux | ancien | âgé; young = jeune; beautiful = beau;
        ugly = laid | moche; good = bon; bad = mauvais; hot = chaud; cold = froid; dry = sec;
        wet = mouillé | humide; clean = propre; dirty = sale; full = plein; empty = vide;
        rich = riche; poor = pauvre; happy = heureux | content; sad = triste; tired = fatigué;
        angry = fâché | en colère; ill = malade; easy = facile; difficult = difficile;
        expensive = cher; closed = fermé; bitter = amer; salty = salé; ripe = mûr; raw = cru;
        round = rond; flat = plat; lazy = paresseux; dangerous = dangereux; polite = poli;
        proud = fier; jealous = jaloux; blind = aveugle; deaf = sourd; dead = mort; alone = seul;
        useful = utile; true = vrai; false = faux; ready = prêt; last = dernier""",
    "phrases": """
        good morning = bonjour; good evening = bonsoir; good night = bonne nuit;
        goodbye = au revoir; see you soon = à bientôt; see you tomorrow = à demain;
        thank you = merci; please = s'il vous plaît | s'il te plaît;
        excuse me = excusez-moi | excuse-moi | pardon;
        you are welcome = de rien | je vous en prie | je t'en prie;
        of course = bien sûr | bien entendu; I love you = je t'aime | je vous aime;
        happy birthday = joyeux anniversaire | bon anniversaire; good luck = bonne chance;
        enjoy your meal = bon appétit; have a good trip = bon voyage;
        happy new year = bonne année; I do not know = je ne sais pas;
        with pleasure = avec plaisir | volontiers; straight ahead = tout droit;
        on the left = à gauche; on the right = à droite; I am hungry = j'ai faim;
        I am thirsty = j'ai soif; a little = un peu""",
}


def _read(category: str, rows: str) -> list[Entry]:
    entries: list[Entry] = []
    for row in " ".join(rows.split()).split("; "):
        english, _, answers = row.partition(" = ")
        french, *synonyms = answers.split(" | ")
        entries.append(Entry(category, english, french, tuple(synonyms)))
    return entries


ENTRIES: tuple[Entry, ...] = tuple(
    entry for category, rows in _TABLE.items() for entry in _read(category, rows)
)

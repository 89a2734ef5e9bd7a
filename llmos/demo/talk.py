"""The demo's conversation, drawn from a seed: facts told among other talk, and a question for each in other words.

Guarantees, each held by tests/unit/test_talk.py over all templates and many seeds:
- the same seed and counter give the same conversation on every Python: draws use `Random.random()` only, whose
  sequence the language promises, and nothing iterates over a set;
- every fact has exactly two near misses (same relation, another person, another value), each a message of its own,
  and no person is named in two of these messages, nor in the talk between;
- a question shares at most one content word besides the person's name with any phrasing of its statement;
- no value stands, even as a part of a word, in a question, in the talk between, or in another relation's text, so
  that a right answer can only come from the statement;
- facts and near misses stand in the first `FACTS_SHARE` of the tokens: the talk after the last one evicts it.
Not here: who tells it to whom, and when the telling stops (demo.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeVar

import msgspec

from kernel.errors import BadInput

FACTS_SHARE: Final = 0.4  # of the user's tokens: all facts and near misses are told before it
NEAR_MISSES: Final = 2  # statements about others that a question could be confused with
TURN_WORDS: Final = (58, 88)  # a talk turn takes sentences until it has so many words: long, for each costs a reply

T = TypeVar("T")


class Relation(msgspec.Struct, frozen=True):
    """A kind of fact: `{n}` is the person, `{v}` the value. Questions ask in other words than statements tell."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    values: tuple[str, ...]


class Turn(msgspec.Struct, frozen=True):
    """One message of the user's. `fact` numbers the question it answers; None: a near miss or other talk."""

    text: str
    fact: int | None = None


class Question(msgspec.Struct, frozen=True):
    """One question, the words that answer it, and the sentence it asks for. `misses` are the near misses' values."""

    text: str
    gold: tuple[str, ...]
    fact: int
    statement: str
    name: str
    misses: tuple[str, ...] = ()


class Talk(msgspec.Struct, frozen=True):
    """What the user tells, in order, then what the user asks. `told` counts the turns up to the last"
    " fact or near miss."""

    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    told: int


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


RELATIONS: Final[tuple[Relation, ...]] = (
    Relation(
        (
            "{n}'s boat is called {v} and it is moored by the old pier.",
            "{n} has christened the new sailing boat {v}.",
            "The boat that {n} keeps by the pier is the {v}.",
        ),
        ("What name did {n} give to the vessel?", "What is the name of {n}'s ship?", "How is the yacht of {n} named?"),
        _words("Heron Petrel Marlin Kestrel Cormorant Nautilus Calypso Andromeda Pegasus Zephyr Galatea Osprey"),
    ),
    Relation(
        (
            "{n} was born in {v} and moved here later.",
            "{n} grew up in {v} before coming here.",
            "{n} comes from {v}, you can still hear the accent.",
        ),
        (
            "Which city is {n} originally from?",
            "What is the home town of {n}?",
            "In which city did {n} spend the childhood?",
        ),
        _words("Lisbon Krakow Bergen Valencia Dresden Turin Antwerp Belgrade Tallinn Marseille Zagreb Salzburg"),
    ),
    Relation(
        (
            "{n} works as a {v} these days.",
            "{n} earns a living as a {v}.",
            "{n} has trained as a {v} and does it full time now.",
        ),
        ("What is the job of {n}?", "Which profession does {n} have?", "What is the occupation of {n}?"),
        _words(
            "dentist locksmith welder beekeeper midwife carpenter notary surveyor cartographer blacksmith librarian"
            " translator plumber"
        ),
    ),
    Relation(
        (
            "{n} is badly allergic to {v}, so we cook without it.",
            "{n} cannot stand a bite of {v}, it causes a rash at once.",
            "{n} had to go to hospital after swallowing some {v}, it was the allergy.",
        ),
        (
            "Which food must {n} avoid?",
            "What should {n} never eat?",
            "Which ingredient is dangerous for {n}?",
        ),
        _words("celery sesame mustard shrimp buckwheat pineapple hazelnut peanut garlic lupin coconut mango"),
    ),
    Relation(
        (
            "{n} plays the {v} every evening.",
            "{n} has taken up the {v} and plays it after supper.",
            "{n} is so good at the {v} that people stop under the window to listen.",
        ),
        (
            "Which instrument does {n} practise?",
            "What does {n} make music with?",
            "Which musical instrument belongs to {n}?",
        ),
        _words(
            "cello oboe trumpet banjo clarinet accordion ukulele bassoon trombone mandolin xylophone saxophone"
            " harmonica"
        ),
    ),
    Relation(
        (
            "{n} keeps a {v} as a pet.",
            "{n} has a tame {v} at home.",
            "{n} came back from the pet shop with a {v} in a box.",
        ),
        ("What animal lives with {n}?", "Which creature does {n} look after?", "What kind of animal belongs to {n}?"),
        _words(
            "parrot tortoise ferret hamster gecko rabbit chinchilla cockatoo canary hedgehog chameleon tarantula python"
        ),
    ),
    Relation(
        (
            "{n} was given locker {v} at the swimming pool.",
            "{n} always takes locker {v} at the pool.",
            "{n} rents locker {v} at the pool for the whole year.",
        ),
        (
            "What is the number of {n}'s locker?",
            "Which number is on the locker of {n}?",
            "What number does the locker of {n} have?",
        ),
        _words("17 23 38 41 56 64 72 85 93 29 47 68"),
    ),
    Relation(
        (
            "{n} painted the kitchen {v} last spring.",
            "{n} chose {v} paint for the kitchen.",
            "{n} wanted a {v} kitchen, and now even the ceiling is painted so.",
        ),
        (
            "What colour are the walls where {n} cooks?",
            "Which colour does {n}'s kitchen have?",
            "What is the colour of the kitchen of {n}?",
        ),
        _words("turquoise crimson lavender beige maroon magenta scarlet salmon khaki burgundy ivory fuchsia"),
    ),
    Relation(
        (
            "{n} drives an old {v} to the market.",
            "{n} sold the car and drives a {v} now.",
            "{n} came down the hill in a {v} this morning, and everyone stared.",
        ),
        (
            "What kind of vehicle belongs to {n}?",
            "Which vehicle does {n} use on the road?",
            "What sort of vehicle does {n} own?",
        ),
        _words("tractor minivan motorbike jeep scooter pickup convertible limousine tricycle hearse moped snowmobile"),
    ),
    Relation(
        (
            "{n} is learning {v} with a tutor.",
            "{n} takes evening classes in {v}.",
            "{n} has signed up for a course of {v} at the college.",
        ),
        (
            "Which language is {n} studying?",
            "What foreign language does {n} want to speak?",
            "Which language does {n} hope to know soon?",
        ),
        _words("Danish Korean Swahili Hungarian Arabic Dutch Icelandic Finnish Basque Tagalog Mongolian Bulgarian"),
    ),
    Relation(
        (
            "{n} collects {v} and has a whole cabinet of them.",
            "{n} has been collecting {v} since school.",
            "{n} buys old {v} at every flea market for the collection.",
        ),
        (
            "Which objects does {n} gather as a hobby?",
            "What things does {n} hoard?",
            "Which objects fill the shelves of {n}?",
        ),
        _words(
            "teapots thimbles postcards corkscrews fossils seashells marbles typewriters lanterns keyrings matchboxes"
            " puppets"
        ),
    ),
    Relation(
        (
            "{n} has moved to {v} Street, next to the bakery.",
            "{n} lives on {v} Street, on the third floor.",
            "{n} has rented a flat on {v} Street.",
        ),
        (
            "What is the address of {n}?",
            "In which street is the apartment of {n}?",
            "On which street would one find {n}'s home?",
        ),
        _words("Juniper Chestnut Foundry Sycamore Brewery Windmill Monastery Quarry Magnolia Barracks Viaduct Tannery"),
    ),
    Relation(
        (
            "{n} is flying to {v} in August.",
            "{n} has booked two weeks in {v}.",
            "{n} bought a guidebook and a plane ticket for {v}.",
        ),
        (
            "Where will {n} go on holiday?",
            "Which country will {n} visit?",
            "What is the destination of {n}'s journey?",
        ),
        _words("Morocco Vietnam Peru Norway Croatia Ecuador Kenya Tunisia Bolivia Cambodia Uruguay Nepal"),
    ),
    Relation(
        (
            "{n} trains for {v} three times a week.",
            "{n} has joined the {v} club.",
            "{n} won a medal in {v} on Sunday.",
        ),
        ("Which sport does {n} do?", "What is the sport of {n}?", "Which sport does {n} like best?"),
        _words(
            "fencing archery judo badminton curling wrestling handball volleyball karate snooker lacrosse gymnastics"
        ),
    ),
    Relation(
        (
            "{n} got a {v} for the birthday.",
            "{n} was handed a {v} in gold paper at the birthday party.",
            "{n} turned forty and we all paid for a {v}.",
        ),
        (
            "What present did {n} receive?",
            "Which gift did {n} unwrap?",
            "What was given to {n} as a present?",
        ),
        _words(
            "telescope hammock microscope skateboard barometer necklace wallet compass jigsaw chessboard backpack drone"
        ),
    ),
    Relation(
        (
            "{n} hides the spare key under the {v}.",
            "{n} told me that the spare key lies under the {v}.",
            "{n} always leaves a spare key beneath the {v}.",
        ),
        (
            "Where can I find {n}'s extra key?",
            "Where does {n} store the second key?",
            "Where should I look for the key to {n}'s house?",
        ),
        _words("flowerpot doormat birdbath woodpile mailbox beehive sundial dustbin wheelbarrow gnome anvil drainpipe"),
    ),
    Relation(
        (
            "{n} slipped on the stairs and broke the left {v}.",
            "{n} fell off a ladder and the {v} is broken.",
            "{n} has a plaster cast because of a broken {v}.",
        ),
        (
            "Which part of the body did {n} injure?",
            "Which body part did {n} hurt?",
            "Where on the body was {n} injured?",
        ),
        _words("wrist thumb kneecap collarbone shinbone forearm elbow ankle pelvis shoulder cheekbone knuckle"),
    ),
    Relation(
        (
            "{n} could eat {v} every day of the week.",
            "{n} is never happier than with a plate of {v}.",
            "{n} asked for {v} again, as on every Sunday.",
        ),
        (
            "What is the favourite dish of {n}?",
            "Which meal does {n} like best?",
            "What food does {n} love most?",
        ),
        _words(
            "lasagne goulash paella moussaka risotto sushi ramen falafel gnocchi ratatouille couscous pierogi tempura"
        ),
    ),
    Relation(
        (
            "{n} has enrolled in {v} at the university.",
            "{n} wants a degree in {v}.",
            "{n} sits in lectures on {v} all day long.",
        ),
        (
            "Which subject does {n} study?",
            "What is {n} a student of?",
            "Which field did {n} choose to study?",
        ),
        _words(
            "astronomy geology philosophy botany linguistics archaeology pharmacy theology meteorology economics"
            " sociology zoology"
        ),
    ),
    Relation(
        (
            "{n} has planted {v} along the fence.",
            "{n} spent Saturday putting {v} into the flower bed.",
            "{n} ordered a whole crate of {v} to plant this year.",
        ),
        (
            "What grows in the garden of {n}?",
            "What is {n} growing in the garden?",
            "What can one see growing behind {n}'s house?",
        ),
        _words(
            "raspberries tulips sunflowers pumpkins artichokes dahlias asparagus gooseberries rhubarb peonies"
            " turnips radishes"
        ),
    ),
    Relation(
        (
            "{n} drinks nothing but {v} at breakfast.",
            "{n} pours a large glass of {v} first thing after getting up.",
            "{n} cannot start the day without {v}.",
        ),
        (
            "Which beverage does {n} have in the morning?",
            "What is the favourite beverage of {n}?",
            "Which beverage does {n} prefer?",
        ),
        _words(
            "cocoa buttermilk espresso lemonade kombucha matcha cappuccino kefir champagne sherry bouillon absinthe"
        ),
    ),
    Relation(
        (
            "{n} is terrified of {v}.",
            "{n} screams and runs at the thought of {v}.",
            "{n} has had a horror of {v} since childhood.",
        ),
        ("What is {n} afraid of?", "What frightens {n}?", "What is {n} scared of?"),
        _words("spiders thunder clowns needles escalators wasps moths heights balloons tunnels snakes mirrors"),
    ),
    Relation(
        (
            "{n} is building a {v} in the shed.",
            "{n} has sawn boards for a {v} all week, and half of it stands.",
            "{n} builds a {v} out of scrap wood.",
        ),
        (
            "What is {n} constructing?",
            "Which object is {n} making by hand?",
            "What is {n} trying to make?",
        ),
        _words("canoe bookcase robot sledge wardrobe cradle catapult kayak doghouse glider birdcage carousel"),
    ),
    Relation(
        (
            "{n} was called {v} by the whole class at school.",
            "{n} is known as {v} among old friends.",
            "{n} still answers when someone shouts {v} across the yard.",
        ),
        (
            "What is the nickname of {n}?",
            "Which nickname does {n} have?",
            "What nickname did people give to {n}?",
        ),
        _words("Biscuit Noodle Comet Badger Pepper Turbo Professor Captain Shadow Pickle Wizard Pirate"),
    ),
    Relation(
        (
            "{n} is going to be {v} on the stage in June.",
            "{n} has been cast as {v} by the theatre group.",
            "{n} has the part of {v} with the drama club.",
        ),
        (
            "Which character does {n} play?",
            "What is the role of {n} in the play?",
            "Which character will {n} act?",
        ),
        _words("Hamlet Macbeth Ophelia Dracula Othello Cinderella Rapunzel Pinocchio Aladdin Merlin Scrooge Juliet"),
    ),
    Relation(
        (
            "{n} hung a picture of a {v} over the sofa.",
            "{n} bought a large oil painting of a {v}.",
            "{n} has framed a print of a {v} for the hall.",
        ),
        (
            "What does the artwork of {n} show?",
            "What can be seen on {n}'s wall?",
            "What is shown on the canvas that {n} owns?",
        ),
        _words("waterfall volcano zebra steamship glacier ballerina pyramid mermaid camel peacock shipwreck dragon"),
    ),
    Relation(
        (
            "{n} takes bus {v} to the office.",
            "{n} gets on bus {v} at half past seven.",
            "{n} has waited for bus {v} in the rain again.",
        ),
        (
            "What is the number of the bus that {n} rides?",
            "Which bus number does {n} need?",
            "What number has {n}'s bus?",
        ),
        _words("14 26 35 49 52 61 77 83 98 19 31 74"),
    ),
    Relation(
        (
            "{n} came to the party dressed as a {v}.",
            "{n} went to the carnival as a {v}.",
            "{n} sewed a {v} outfit for the masked ball.",
        ),
        (
            "What was the costume of {n}?",
            "Which costume did {n} wear?",
            "What did {n} disguise as?",
        ),
        _words("vampire cowboy scarecrow mummy knight ninja lobster snowman gladiator pharaoh werewolf penguin"),
    ),
    Relation(
        (
            "{n} left the {v} on the train.",
            "{n} went to the station to ask for the {v}, but nobody had handed it in.",
            "{n} got off at the last stop without the {v}.",
        ),
        (
            "What did {n} lose?",
            "Which belonging did {n} forget?",
            "What has {n} lost?",
        ),
        _words("passport briefcase scarf laptop thermos diary purse tripod handbag sketchbook bracelet sombrero"),
    ),
    Relation(
        (
            "{n} won a {v} in the raffle.",
            "{n} drew the lucky ticket and went home with a {v}.",
            "{n} won the big {v} at the fair.",
        ),
        (
            "What prize did {n} get?",
            "Which prize was awarded to {n}?",
            "What was the prize of {n}?",
        ),
        _words(
            "toaster hamper mattress trampoline projector barbecue juicer tandem lawnmower chandelier jukebox minibar"
        ),
    ),
    Relation(
        (
            "{n} is reading a thick novel about {v}.",
            "{n} has borrowed a novel about {v} and cannot put it down.",
            "{n} stayed up all night with a novel on {v}.",
        ),
        (
            "What is the topic of {n}'s book?",
            "What is the book of {n} about?",
            "What does {n}'s book deal with?",
        ),
        _words(
            "smugglers spies Vikings dinosaurs whalers samurai mountaineers cannibals alchemists highwaymen hackers"
            " submarines"
        ),
    ),
    Relation(
        (
            "{n} will be waiting for me at the {v} tomorrow.",
            "{n} and I have agreed on the {v} at noon.",
            "{n} wants to see me by the {v} after lunch.",
        ),
        (
            "Where am I going to meet {n}?",
            "At what place will I meet {n}?",
            "What is the meeting place with {n}?",
        ),
        _words(
            "fountain planetarium courthouse stadium bandstand observatory aqueduct obelisk embassy casino synagogue"
            " funfair"
        ),
    ),
)

NAMES: Final[tuple[str, ...]] = _words(
    "Marta Jonas Olga Pavel Tomas Kenji Greta Hugo Nadia Felix Priya Anton Clara Diego Edith Boris Wanda"
    " Silas Tessa Rolf"
    " Yara Caleb Irma Leopold Beatrix Cyrus Dorothea Emilio Farida Gustav Hilda Ignacio Jasmin Klaus"
    " Lucinda Magnus Noemi"
    " Osvaldo Petra Quentin Rosalind Stefan Tamara Ulrich Veronica Walter Xenia Yusuf Zelda Abigail Bertram Cordula"
    " Dmitri Esther Florian Gwendolyn Harald Isolde Joachim Katinka Lorenzo Mirabel Nikolai Ottilie Philippa Raphael"
    " Svetlana Thaddeus Ursula Vincent Winifred Zacharias Adelheid Benedikt Constance Desmond"
)
"""Persons of the facts and near misses; nobody in the talk between has a name."""

LEADS: Final[tuple[str, ...]] = (
    "",
    "",
    "",
    "By the way: ",
    "Oh, before I forget: ",
    "Something else: ",
    "This will amuse you: ",
    "News from the neighbours: ",
    "I heard it yesterday: ",
)
"""What a fact's message opens with; a third of them open with the statement itself."""

TOPICS: Final[tuple[tuple[str, ...], ...]] = (
    (  # weather
        "It has been [grey|damp|windy|foggy] since [early this week|the weekend|Tuesday], and the forecast "
        "promises more of the same until Friday.",
        "I hung the washing out twice and had to bring it in again because of the [drizzle|hail|sudden showers].",
        "The sky was almost [purple|black|yellow] in the afternoon, but in the end hardly a drop came down.",
        "Somebody in the office says that a wet [April|May|September] means a dry summer, which I do not believe.",
        "I like the smell of the streets after a [short|warm|heavy] rain more than any sunny day.",
        "The roof [rattled|creaked|hummed] all night in the storm, so none of us slept very well.",
        "There was ice on the windscreen this morning, and I scraped it off with an old [bank card|ruler|spatula].",
        "My weather app shows a little [sun|cloud|raindrop] for every single hour and is wrong about half of them.",
        "In winter the light is gone by the time I get [home|to the shops|out of the building], which makes me sleepy.",
        "The puddles in front of our door are so [deep|wide|muddy] that the children float paper ships in them.",
        "We had planned a picnic, but with that wind the [plates|napkins|sandwiches] would have flown away.",
        "It is finally [mild|warm|dry] enough to leave the windows open at night and listen to the crickets.",
        "I bought [new boots|a better umbrella|a raincoat] last month, and naturally it has not rained since.",
        "The thermometer on the balcony has been broken for years, yet I [tap|check|read] it every morning.",
        "Do you think it makes sense to talk about the weather as much as [people here|my colleagues|we all] do?",
        "A rainbow stood over the [railway|river|supermarket] for ten minutes, and strangers pointed it out to "
        "each other.",
    ),
    (  # cooking
        "I made a [lentil|tomato|leek|barley] soup yesterday, and it turned out much too salty, as it often does.",
        "The trick with rice seems to be that you must not [stir|touch|uncover] it, however much you want to.",
        "Our oven is hotter at the back than at the front, so every [cake|pie|loaf] comes out a little crooked.",
        "I watched a video about [sharpening knives|kneading dough|folding dumplings] and felt like an expert for "
        "an hour.",
        "The children will only eat carrots if they are cut into [stars|coins|thin sticks], and even then not all "
        "of them.",
        "There is a jar at the back of the fridge that nobody dares to [open|throw away|smell].",
        "For once I followed the recipe to the letter, and it was [better|worse|no different] than my usual guesswork.",
        "I always buy too many [onions|potatoes|apples] at the market because they look so nice in the crates.",
        "A friend swears by cooking everything in one [iron|copper|clay] pot, which saves a lot of washing up.",
        "The sauce needed an hour on a low flame, and I was too [hungry|impatient|tired] to wait that long.",
        "My grandmother never weighed anything, she went by the [sound|colour|feel] of the dough.",
        "We have started to plan the meals of a whole week on [Sunday|Thursday] evening, and it lasts until Tuesday.",
        "I burnt the [porridge|toast|pancakes] this morning because I was looking for my glasses at the same time.",
        "Is there a good way to keep [fresh herbs|spinach|lettuce] from going limp after two days?",
        "The bread from the corner shop is [fluffy|dark|crusty] and gone before we reach our own door.",
        "Leftovers taste better on the second day, at least [stews|curries|casseroles] do, and nobody has to cook.",
        "I tried to bake without sugar for a month and found that [raisins|dates|ripe bananas] do most of the job.",
    ),
    (  # books
        "I have been stuck on the same [chapter|page|paragraph] for a week because I fall asleep after three lines.",
        "The library lets you keep ten volumes at a time, and I usually finish [two|three|none] of them.",
        "In the story a [farmer|widow|postman] inherits a house with a locked room, and of course it is opened at "
        "midnight.",
        "I prefer paper to a screen, if only because I remember whether a sentence was on the [left|right] side.",
        "The second volume was [slower|funnier|sadder] than the first, and I liked it more for that reason.",
        "Our reading circle argued for an hour about whether the ending was [hopeful|cheap|fair].",
        "I give a novel fifty pages, and if it has not [moved|surprised|amused] me by then I put it back.",
        "There is a second-hand shop near the station that sells [poetry|atlases|cookbooks] by weight.",
        "Somebody had written [remarks|jokes|question marks] in pencil in the margins, and they were better than "
        "the text.",
        "I read the last page first, which makes my [brother|colleague|neighbour] furious.",
        "Translations fascinate me, for I always wonder what the [jokes|names|curses] were in the original.",
        "As a child I read under the blanket with a [torch|bicycle lamp], like everybody else I suppose.",
        "The cover was so [ugly|plain|bright] that I nearly did not pick it up at all.",
        "What do you recommend to somebody who likes [long|quiet|strange] books without much of a plot?",
        "I keep a list of everything I have read, and looking at it I remember [little|half|almost nothing] of "
        "what happened.",
        "Short stories suit me in [spring|winter], and the thick ones are for the summer.",
    ),
    (  # gardening
        "The slugs have eaten all the [lettuce|beans|marigolds] again, down to the last leaf.",
        "I turned the compost on Saturday and found a [spoon|tennis ball|glove] that had been missing since last year.",
        "The lawn is more moss than grass by now, but it is [soft|green|quiet] and I have made my peace with it.",
        "Every spring I sow far too [early|densely|deep] and then wonder why so little comes up.",
        "The old apple tree bears only every second year, and this is the [good|lazy] one.",
        "A blackbird follows me along the rows and takes the [worms|grubs] as I dig them out.",
        "I pruned the [roses|hedge|vine] too hard, I think, for it looks like a broom now.",
        "The watering can has a leak, so one of my [shoes|socks] is always wet in the evening.",
        "There is nothing as [satisfying|tiring|calming] as an hour of weeding after a day of meetings.",
        "The tomatoes on the balcony are still [green|tiny|hard], and it is nearly autumn.",
        "I planted [mint|ivy|bamboo] once without a pot around it and have regretted it ever since.",
        "The soil here is heavy clay, so after rain I carry half of the [bed|path] indoors on my boots.",
        "We share the rake and the [shears|ladder|hose] with the people next door, which mostly means searching "
        "for them.",
        "Should I cover the young plants at night while there is still a risk of [frost|wind|cats]?",
        "I have labelled everything this year with little [sticks|stones|slates], but the writing has washed off "
        "already.",
        "The bees were all over the [thyme|clover|sage] at noon, and I sat down just to listen.",
    ),
    (  # commuting
        "The train was [late|cancelled|packed] again, and the announcement blamed a signal two towns away.",
        "I have found a seat by the window in the last carriage where nobody [talks|eats|phones] before eight.",
        "They are digging up the road at the [crossing|bridge|roundabout] for the third time since Christmas.",
        "Going by bicycle takes [ten|twenty|five] minutes longer, but I arrive in a much better mood.",
        "The ticket machine refused my [coins|card|banknote], so I travelled with a bad conscience.",
        "There is a man on my platform who does [stretches|crosswords|yoga] every single morning.",
        "I once slept past my stop and woke up at the [depot|terminus|seaside], which was almost a holiday.",
        "Working from home two days a week has given me back about [six|five|four] hours, and I spend them on naps.",
        "The lift at the station has been out of order so long that [ivy|dust|a poster] covers the button.",
        "The tram driver waited for me when I ran, and I was [grateful|happy|astonished] for the rest of the day.",
        "I listen to [podcasts|lectures|the radio] on the way, and afterwards I cannot say what they were about.",
        "Somebody left a [newspaper|crossword|paper bag] on my seat with a note that said have a nice day.",
        "A new timetable comes out in [December|March], and I expect nothing good from it.",
        "Parking near the office costs more than [lunch|a cinema ticket], so I have given up on driving.",
        "The quickest way leads through the [cemetery|park|car park], and it is also the prettiest.",
        "Do you suppose that the trains will ever run on time in [autumn|snow|summer]?",
    ),
    (  # films
        "We saw a film about a [lighthouse|bank robbery|road trip] and disagreed about it all the way back.",
        "I cannot watch anything scary after nine, or I check the [cellar|cupboards|locks] three times.",
        "The sound in the old cinema is [terrible|too loud|muffled], but the seats are made of red velvet.",
        "In the series I follow, everyone [whispers|lies|shouts] all the time and nobody ever eats.",
        "I like it when a story takes its time and shows people [washing up|walking|waiting].",
        "We could not agree on anything to watch, so we read the [descriptions|titles] for an hour and went to bed.",
        "Black and white pictures look [sharper|calmer|stranger] to me than most of what is made today.",
        "The music was the best part of it, mostly [strings|drums|a choir] and long silences.",
        "A documentary about [rivers|ants|glass] kept me awake far longer than I had intended.",
        "The actor was in something else that I have seen, and it took me until [midnight|breakfast] to remember what.",
        "I always sit in the [third|last|middle] row, for reasons that I could not defend.",
        "The subtitles were half a second [late|early], and that was enough to spoil every joke.",
        "The remake was [longer|shinier|louder] than the original and not as good.",
        "Popcorn is too noisy for me, so I smuggle in [grapes|liquorice|bread].",
        "What was the last film that made you [laugh|think|change your mind], if that is something you do?",
        "The ending was left open, and I am still [annoyed|thinking|undecided] about it a week later.",
    ),
    (  # sport and exercise
        "I went for a run and was overtaken by a [pram|dog|very old man], which was good for my humility.",
        "My knees complain on the way [down|up], so I have started to take the lift in the mornings.",
        "The gym is full in January and [empty|quiet] again by the middle of February.",
        "We lost our match by [two|three|four] goals, but the sausages afterwards were excellent.",
        "I learned to swim late and still hold my breath as if the [water|lane|lifeguard] might bite.",
        "The trainer says I should [breathe|smile|count] more, and I do not find that helpful.",
        "A long walk on [Sunday|Saturday] is all the exercise I really enjoy.",
        "There is a table for table tennis in the park, and we play with [wooden|borrowed|cracked] bats.",
        "I watched the marathon from the balcony with a cup of [tea|coffee] and felt part of it.",
        "My shoes are worn down on the [outer|inner] side, which apparently says something about me.",
        "Stretching in front of the television is a [habit|plan|rule] that has lasted for three days so far.",
        "They have closed the outdoor pool for [repairs|cleaning], just as it was getting warm.",
        "I can do [nine|eleven|six] press-ups now, if nobody looks too closely at the last one.",
        "The hill behind the school is [steep|slippery] enough that I have to push the bicycle.",
        "Is it better to exercise before or after [work|dinner|breakfast], in your opinion?",
        "We tried climbing in a hall, and my hands were [sore|shaking|useless] for two days.",
    ),
    (  # housework
        "I have sorted the [cellar|attic|kitchen drawer] and found four identical screwdrivers.",
        "The vacuum cleaner makes a [whistling|grinding|sad] noise, and I pretend not to hear it.",
        "Ironing is bearable as long as there is a [good radio play|quiz|concert] on.",
        "One sock always goes missing in the wash, and this time it was one of the [woollen|striped|good] ones.",
        "The tap in the bathroom [drips|squeaks|rattles] in a rhythm that I have begun to like.",
        "We painted the hall on a Sunday, and there is still white paint on the [light switch|doorbell|cat].",
        "I own three kinds of cleaner that all claim to remove [lime|grease|rust] and do not.",
        "The shelf I put up is [nearly|almost] level, and a pencil rolls down it only very slowly.",
        "Changing the bulb took an hour because the [ladder|fuse box|right screw] was nowhere to be found.",
        "I have decided to throw out one [object|bag|box] a day until the flat looks like in the magazines.",
        "The neighbours upstairs move furniture at [midnight|dawn], or so it sounds.",
        "There was a smell in the corridor that turned out to be a forgotten [lunch box|cabbage|sponge].",
        "The washing machine stops [four|seven] minutes before the end, and nobody knows why.",
        "I keep the [manuals|receipts|spare screws] for everything and can never find any of them.",
        "How often does one really have to clean the [windows|filters|gutters behind the house]?",
        "The rug looks much better since we turned it [round|over], and it cost nothing.",
    ),
    (  # work
        "We had a meeting about how to have fewer [meetings|emails|forms], and it ran over time.",
        "The coffee machine at the office is [broken|being cleaned|out of beans], so the mood is low.",
        "I answered [forty|sixty|thirty] emails today and cannot say what any of them was about.",
        "My desk faces the [wall|window|printer], which explains a lot about my character.",
        "They want us to fill in our hours in a new [system|table|form], and it takes about an hour a day.",
        "A plant on the windowsill has survived [three|four|five] heads of department.",
        "I gave a talk in front of [twelve|eighty|nine] people, and the microphone failed in the first minute.",
        "The printer only works if you [speak softly to it|close the lid twice|use the lower tray].",
        "There is cake in the kitchen on Fridays, and everyone becomes very [punctual|friendly|busy] nearby.",
        "My new colleague [hums|types|sneezes] so loudly that I have begun to plan my day around it.",
        "The deadline was moved by a [week|month|day], and we celebrated by doing nothing.",
        "I have learned to say that I will think about it, which mostly means [no|later|never].",
        "The heating in our building is either [tropical|arctic] or switched off.",
        "I lost a whole [report|table|afternoon] because I had not saved it, as in the old days.",
        "How do you keep [calm|focused|polite] when ten people want something at the same moment?",
        "In the canteen they call it [vegetable surprise|soup of the day|harvest bowl], and nobody asks further.",
    ),
    (  # travel memories
        "Years ago we took a night train and woke up among [mountains|vineyards|cranes], which I still dream about.",
        "The hotel room was so [small|pink|noisy] that we laughed about it for the whole trip.",
        "I always pack too many [shirts|books|medicines] and too few socks.",
        "On the ferry everyone was [seasick|singing|asleep] except for us and the cook.",
        "We got lost in the old quarter and found the best [ice cream|coffee|view] of the whole week.",
        "My suitcase has a [squeaky|missing] wheel, so people hear me coming from afar.",
        "I like airports early in the morning, when the [shops|bars] are still closed and everybody whispers.",
        "The map was from [before the war|another decade|the wrong town], but the hills were in the right place.",
        "We rented a cottage without [internet|curtains|hot water] and stayed two days longer than planned.",
        "A stranger shared a [melon|blanket|bench] with us at the station, and we have exchanged cards since.",
        "It rained the whole time, and we played [cards|dominoes] and ate crackers by the stove.",
        "I send cards to myself from every trip, and they usually arrive [months|weeks] after me.",
        "The beach was full of [pebbles|seaweed|flags], and the sea much too cold for anything but feet.",
        "Somebody told us that the museum was free on [Wednesdays|rainy days], which was not true.",
        "Would you rather go to the [sea|mountains|city] if you could go anywhere at all?",
        "The best part of going away is the first [night|cup of tea|morning] in my own home again.",
    ),
    (  # neighbourhood
        "They have opened a shop for [lamps|cheese|candles] on the corner, where the hairdresser used to be.",
        "The street party was on Saturday, and the [band|cake|speech] was better than last year.",
        "Somebody has put a [chair|piano stool|box of plates] on the pavement with a sign that says take me.",
        "The church bell has been a quarter of an hour [slow|fast] since the clocks went back.",
        "We have a new postwoman who [sings|whistles|runs], and the dogs like her.",
        "A fox walks through our yard every evening at about [nine|ten|eleven], as if it paid rent.",
        "The playground got a new [slide|swing|sandpit], and half of the grown-ups have tried it out.",
        "There is a noticeboard with offers of [lessons|firewood|babysitting] that nobody ever takes down.",
        "I met the people from the ground floor at last, after [six|nine|eleven] years in the same house.",
        "The kiosk sells newspapers, milk and [gossip|batteries|wool], and I go there for the second of these.",
        "They want to cut down the old lime trees for [parking|cables|pipes], and there is a petition.",
        "The market on the square has shrunk to [four|five|three] stalls, but the honey is as good as ever.",
        "Our block has one parcel room, and it looks like a [castle|maze|landslide] before Christmas.",
        "A cat that belongs to nobody sleeps on the bonnet of every [warm|red|clean] car in turn.",
        "Do people still borrow [eggs|flour|sugar] from each other where you come from, so to speak?",
        "The lamp in front of our house flickers in a way that looks like a [code|dance|warning].",
    ),
    (  # technology at home
        "My phone wants an update every [night|week], and afterwards everything is in another place.",
        "I have forgotten the password for the [heating|router|bonus card], and the hint says the usual one.",
        "The old radio in the hall still works better than the [clever speaker|tablet|television] next to it.",
        "I printed all the [holiday|family] pictures of last year, because I do not trust the cloud.",
        "The battery lasts until about [three|four|two] in the afternoon, exactly when I need it.",
        "My father calls me whenever a [window|button|message] appears that was not there before.",
        "I spent the evening untangling [cables|headsets|fairy lights] and threw most of them away.",
        "The alarm clock is set by [radio|hand], and twice a year it loses its mind.",
        "Somebody gave us a machine that makes [popcorn|yoghurt|bubbles], and it lives in its box.",
        "The map in the car tried to lead us through a [river|courtyard|field], very politely.",
        "I have [two hundred|nine hundred|four thousand] unread messages in a folder that I call later.",
        "The screen has a crack in the shape of a [tree|river|star], and I have grown fond of it.",
        "I write my lists by hand again, since paper never asks me for my [opinion|location|consent].",
        "The door camera mostly films [leaves|pigeons|clouds], and it is very excited about them.",
        "Can you explain to me why a [kettle|toothbrush|scale] should need an app?",
        "We switched off the internet for a Sunday, and it was [long|wonderful|quiet].",
    ),
    (  # music and radio, hobbies
        "I have started to draw in the evenings, mostly [hands|trees|cups], and all of them look tired.",
        "Our choir is short of tenors, so I stand [behind|between] them and move my lips.",
        "The puzzle on the dining table has a thousand pieces, and [eight hundred|half] of them are sky.",
        "On the radio they played a song that I had not heard since [school|my twenties], and I knew every word.",
        "I bought [wool|clay|linen] for a project that I have already lost interest in.",
        "We play board games on [Monday|Wednesday] evenings, and the same person wins every time.",
        "The concert was outdoors, and the [trains|swallows|bells] joined in at the quiet moments.",
        "I tried my hand at [candles|paper flowers|soap] and ruined a perfectly good saucepan.",
        "A workshop in the community centre teaches how to mend [chairs|bicycles|jumpers], and it is always full.",
        "There is a choir practising in the building opposite, always the same [eight|twelve] bars.",
        "I keep a notebook of [overheard sentences|good words|dreams], and it is very funny to nobody but me.",
        "The photographs from the old camera came back all [blurred|blue|empty], but I like two of them.",
        "I have taken up [origami|calligraphy|juggling], which means that there is paper or fruit all over the floor.",
        "Do you think that one can start something [difficult|new|creative] at any age?",
        "I bought a ticket for the opera by mistake and stayed to the end out of [curiosity|politeness].",
        "My quiz team came [last|second|fifth], and the question that broke us was about rivers.",
    ),
    (  # family and small plans
        "My sister is coming for the weekend with the [twins|dog|baby], so I am hiding everything that breaks.",
        "My parents have discovered video calls, and I know their [ceiling|foreheads|curtains] very well now.",
        "We are thinking about a [bench|swing|bird feeder] for the terrace, nothing expensive.",
        "My nephew asked me why the moon is [following us|awake by day|broken], and I did not have a good answer.",
        "On Sunday we will have eleven people at a table for [six|seven|eight], and I look forward to it.",
        "My aunt writes long letters in [green|faded|tiny] handwriting, and it takes two of us to read them.",
        "I promised to repair the [swing|gate|kite] by the weekend and have not begun.",
        "The children have made up a language in which every word ends in [o|ish|um].",
        "My uncle tells the same story about a [goat|flood|broken bridge] every time, and every time it gets longer.",
        "We have agreed to give each other nothing for [Christmas|Easter], and nobody will keep to it.",
        "The baby next door laughs at [spoons|sneezes|hats], and it is impossible not to join in.",
        "My cousin and I write to each other once a [month|season] about nothing at all.",
        "I am trying to get up at [six|half past five], and so far I have managed it on one day.",
        "There is a box of old [photographs|letters|school reports] that we open every winter.",
        "How do other people manage to remember all the [birthday cards|appointments|school trips] without a wall "
        "of notes?",
        "My grandfather could tell the time by the [light on the wall|sound of the road|mood of the cat].",
    ),
    (  # health, sleep, small thoughts
        "I slept badly, got up at four, and watched the [bakers|street sweepers|swallows] begin their day.",
        "A cold has gone round the whole house, and we are living on [broth|tea|toast] and old series.",
        "I try to drink more water and mostly succeed in carrying a [bottle|glass|jug] about with me.",
        "The waiting room had magazines from [three|five|eight] years ago, and I read about weddings long dissolved.",
        "My glasses were on my [head|knee|forehead] the whole time, as everybody but me could see.",
        "They say that walking clears the mind, and mine is full again by the [corner|bakery|bridge].",
        "I have noticed that I am [nicer|slower|wiser] after lunch, and so have the others.",
        "There should be a word for the tiredness after a very [good|sunny|long] day.",
        "I counted the stairs on the way up, and there are always [one more|two fewer] than before.",
        "Sometimes I sit in the [tub|car|kitchen] for ten minutes just because nobody is asking for anything.",
        "I made a resolution to worry less and now worry about [keeping|breaking|forgetting] it.",
        "The new pillow is supposed to remember my [neck|head], and I hope it keeps that to itself.",
        "A nap of twenty minutes is ideal, and a nap of two hours is a [mistake|tragedy|journey].",
        "I had my hair cut, and it is [shorter|stranger|straighter] than I asked for, but it will grow.",
        "What do you do when a tune goes round in your head for [days|a whole week]?",
        "I read that plants listen when you [talk|sing|hum], so I have been telling mine about my day.",
    ),
)
"""The talk between, by topic: whole sentences, `[a|b]` stands for one of its alternatives."""

OPENINGS: Final[tuple[str, ...]] = (
    "",
    "",
    "",
    "Well, where was I.",
    "To change the subject a little.",
    "Let me tell you about my day.",
    "Nothing much has happened, but still.",
    "I have a moment before I must go on.",
    "Here is something on another matter.",
)

_CHOICE: Final = re.compile(r"\[([^\]]*)\]")
_WORD: Final = re.compile(r"[^\W_]+")
_STOP: Final = frozenset(
    _words(
        "a an the this that these those and or but nor so as if than then because while of in on at by to from"
        " with without for about into onto over under up down out off after before behind beneath between through"
        " along across next is are was were be been being am do does did done doing have has had having will would"
        " can could shall should may might must i you he she it we they me him her us them my your his its our"
        " their mine yours one ones somebody someone everyone everybody nobody nothing something what which who"
        " whom whose where when why how not no never always again also even still now here there very too much many"
        " most more some any all each every such only just s t"
    )
)
"""Function words: they carry no content of their own, and every question has some."""
_IRREGULAR: Final = dict(
    pair.split(":")
    for pair in _words(
        "bought:buy sold:sell won:win winner:win lost:lose told:tell gave:give given:give grew:grow grown:grow"
        " came:come went:go gone:go goes:go ate:eat eaten:eat drank:drink drove:drive driven:drive wore:wear"
        " worn:wear broke:break broken:break fell:fall left:leave kept:keep built:build hid:hide hidden:hide"
        " shown:show met:meet took:take taken:take sat:sit chose:choose chosen:choose drew:draw drawn:draw"
        " made:make got:get knew:know known:know said:say feet:foot people:person lives:live flies:fly spent:spend"
        " paid:pay slept:sleep students:study student:study hung:hang stood:stand saw:see seen:see ran:run"
    )
)
_UNITS: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS: Final = _words("zero ten twenty thirty forty fifty sixty seventy eighty ninety")


def content_words(text: str) -> frozenset[str]:
    """The stems of `text`'s words that are not function words; numbers are words.

    The stemming is light and rather joins too much than too little ("plays", "played", "playing", "player" are one), so
    that a count of shared words errs on the high side.
    """
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP)


def _stem(word: str) -> str:
    word = _IRREGULAR.get(word, word)
    for ending in ("ations", "ation", "ings", "ing", "ions", "ion", "ied", "ies", "ers", "er", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    word = word.rstrip("eiy")
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def right(question: Question, reply: str) -> bool:
    """Whether every gold word stands in `reply` as a whole word, in any case; a number counts spelled out, too."""
    words = _WORD.findall(reply.lower())
    return all(_stands(gold, words) for gold in question.gold)


def _stands(gold: str, words: Sequence[str]) -> bool:
    if gold in words:
        return True
    if not gold.isdecimal():
        return False
    spelled = _spelled(int(gold))
    whole = range(len(words) - len(spelled) + 1)
    return "".join(spelled) in words or any(tuple(words[at : at + len(spelled)]) == spelled for at in whole)


def _spelled(number: int) -> tuple[str, ...]:
    """The English words of a number below 100."""
    if number < len(_UNITS):
        return (_UNITS[number],)
    tens, units = divmod(number, 10)
    return (_TENS[tens],) if units == 0 else (_TENS[tens], _UNITS[units])


class _Draws:
    """Random draws that stay the same over versions of Python."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return int(self._random.random() * n)

    def one(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """`items` in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            at = self.below(last + 1)
            order[last], order[at] = order[at], order[last]
        return order


class _Chatter:
    """The talk between: turns of one topic each, no sentence twice before its topic's are used up."""

    def __init__(self, draws: _Draws) -> None:
        self._draws = draws
        self._topics: list[int] = []
        self._decks: list[list[str]] = [[] for _ in TOPICS]

    def turn(self) -> str:
        """The next talk turn, TURN_WORDS long."""
        if not self._topics:
            self._topics = self._draws.shuffled(range(len(TOPICS)))
        topic = self._topics.pop()
        words = TURN_WORDS[0] + self._draws.below(TURN_WORDS[1] - TURN_WORDS[0])
        sentences = [self._draws.one(OPENINGS)]
        drawn: list[str] = []
        while len(" ".join(sentences).split()) < words:  # ends: a topic has many more words than a turn
            if not self._decks[topic]:
                self._decks[topic] = [one for one in self._draws.shuffled(TOPICS[topic]) if one not in drawn]
            drawn.append(self._decks[topic].pop())
            sentences.append(self._filled(drawn[-1]))
        return " ".join(sentences).strip()

    def _filled(self, sentence: str) -> str:
        return _CHOICE.sub(lambda found: self._draws.one(found[1].split("|")), sentence)


class _Told(msgspec.Struct, frozen=True):
    """A statement to be told, and its place in the conversation."""

    turn: Turn
    relation: int


def conversation(seed: int, facts: int = 10, tokens: int = 6000, *, count: Callable[[str], int]) -> Talk:
    """Draw a conversation whose user turns alone have at least `tokens` tokens by `count`.

    All facts and near misses come within FACTS_SHARE of the tokens (or, where `tokens` is too small for that, at least
    as many tokens follow the last one as came before). Whoever tells it may stop earlier, as replies count as well, but
    not before the last fact is evicted.
    Raises BadInput for a number of facts that the relations or names do not allow.
    """
    most = min(len(RELATIONS), len(NAMES) // (1 + NEAR_MISSES))
    if not 1 <= facts <= most:
        raise BadInput(f"{facts} facts: a conversation has 1 to {most}")
    draws = _Draws(seed)
    chatter = _Chatter(draws)
    names = draws.shuffled(NAMES)
    told: list[_Told] = []
    questions: list[Question] = []
    for fact, number in enumerate(draws.shuffled(range(len(RELATIONS)))[:facts]):
        relation = RELATIONS[number]
        values = draws.shuffled(relation.values)[: 1 + NEAR_MISSES]
        for miss, value in enumerate(values):
            name = names.pop()
            statement = draws.one(relation.statements).format(n=name, v=value)
            told.append(_Told(Turn(draws.one(LEADS) + statement, None if miss else fact), number))
            if not miss:
                asked = draws.one(relation.questions).format(n=name)
                gold = (value.lower(),)
                missed = tuple(other.lower() for other in values[1:])
                questions.append(Question(asked, gold, fact, statement, name, missed))
    turns = _scattered(draws, chatter, _apart(draws.shuffled(told)), int(tokens * FACTS_SHARE), count)
    first = len(turns)
    before = sum(count(turn.text) for turn in turns)
    after = 0
    while after < before or before + after < tokens:  # ends: every turn has tokens
        turns.append(Turn(chatter.turn()))
        after += count(turns[-1].text)
    return Talk(tuple(turns), tuple(draws.shuffled(questions)), first)


def _apart(told: list[_Told]) -> list[_Told]:
    """The same messages, with no two of one relation next to each other where that can be helped. O(n^2)."""
    left = list(told)
    order: list[_Told] = []
    while left:  # ends: one leaves in every round
        at = next((at for at, one in enumerate(left) if not order or one.relation != order[-1].relation), 0)
        order.append(left.pop(at))
    return order


def _scattered(
    draws: _Draws, chatter: _Chatter, told: list[_Told], tokens: int, count: Callable[[str], int]
) -> list[Turn]:
    """The statements in order among talk, a statement last, in all at most `tokens` unless the statements have more."""
    left = tokens - sum(count(one.turn.text) for one in told)
    talk: list[Turn] = []
    while True:  # ends: every turn has tokens
        turn = Turn(chatter.turn())
        left -= count(turn.text)
        if left < 0:
            break
        talk.append(turn)
    # Talk stands before a statement, never after the last: what follows that is what evicts it.
    slots = sorted(draws.below(len(told)) for _ in talk)
    turns: list[Turn] = []
    for at, one in enumerate(told):
        turns += [talk.pop() for slot in slots if slot == at]
        turns.append(one.turn)
    return turns

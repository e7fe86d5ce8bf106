"""The words that the grammar of stories knows: verbs, prepositions, nouns that do not follow the rule."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS = _words(
    """
    aim appear approach ascend attempt balance bark bask bat bathe battle begin bend bike bite block
    blow board bounce bound bow box break build camp carry carve cast catch chase chat cheer chew chop
    clap clean climb collect comb come compete cook cover crack crash crawl cross crouch cry cuddle cut
    cycle dance dangle descend dig dive drag draw dribble drink drive drop dunk eat embrace emerge enjoy
    enter examine exit face fall feed fetch fight fish fix flap flip float fly fold follow gallop gather
    gaze gesture get give glide go grab graze greet grin grind guard guide hang have help hide hike hit
    hoist hold hop hug hurdle hurl inspect interact jog juggle jump kayak keep kick kiss kneel land
    laugh lay lead lean leap leave lick lie lift listen look lounge lunge make maneuver march meet
    mingle mount move nap navigate observe open operate overlook paddle paint park participate pass
    pedal peek perch perform pet photograph pick pitch play plunge point pose pounce pour practice
    prepare pretend proceed pull push put race raise rappel reach read relax rest retrieve return ride
    roll rollerblade row run sail scale scramble sculpt sell serve set shake share shoot shop shovel
    show sing sip sit skate skateboard ski skip sled sleep slice slide smell smile smoke sniff snowboard
    soar somersault speak spin splash sprawl spray sprint squat stalk stand stare step stick stir
    stretch strike stroll strum stumble sunbathe surf surround swim swing tackle take talk taste teach
    tease throw tie toss touch train travel trek trot try tug tumble turn type use visit wade wag wait
    wakeboard walk wander wash watch wave wear wink work wrap wrestle write yank yawn yell zoom
    """
)

DOUBLED = _words(
    """
    bat begin chat chop clap cut dig drag drop flip get grab hit hop hug jog nap pet put rappel run set
    shop sip sit skip sled spin squat step stir strum swim tug wag wrap
    """
)
"""Verbs whose last letter is doubled before -ing."""

TO_BE = _words("is are was were")
SUBORDINATORS = _words("that who which while as because so when where after before")

PREPOSITIONS = _words(
    """
    about above across against along among around at behind below beneath beside between by down for
    from in inside into near next of off on onto out outside over past through to toward towards under
    up upon with without
    """
)

PLURAL_STARTS = _words(
    """
    two three four five six seven eight nine ten eleven twelve several many some few both multiple
    numerous various these those
    """
)
"""What stands before more than one."""

DETERMINERS = PLURAL_STARTS | _words("a an the one another each every his her their its this no")

ADJECTIVES = _words(
    """
    black white red blue green yellow orange brown gray grey pink purple tan blond blonde golden silver
    dark light bright colorful colourful striped spotted plaid young old older elderly little small big
    large huge tall short long happy wet dirty muddy snowy grassy sandy rocky empty busy wooden other
    different same asian african american female male furry fluffy bald shirtless barefoot
    """
)

LONE_NOUNS = _words("man woman boy girl dog cat child baby person couple group crowd horse bird car bike")
"""Nouns that want an article when a caption begins with them."""

COMMON_NOUNS = _words(
    """
    man woman boy girl child baby person dog cat horse bird car bike bicycle boat bus train flower tree
    building skateboarder surfer snowboarder skier player soldier puppy cow elephant sheep
    """
)
"""What a folder of pictures may be said to have in common."""

IRREGULAR_PLURALS = {
    "child": "children",
    "deer": "deer",
    "fireman": "firemen",
    "fish": "fish",
    "foot": "feet",
    "gentleman": "gentlemen",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "policeman": "policemen",
    "sheep": "sheep",
    "shelf": "shelves",
    "skis": "skis",
    "snowman": "snowmen",
    "tooth": "teeth",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}
SINGULARS_IN_S = _words("dress grass bus glass tennis class cross boss his its christmas this")

LOOSE_ENDS = (PREPOSITIONS | DETERMINERS | TO_BE | _words("and or while that as")) - _words(
    "down up off out inside outside by past over around through along"
)
"""Words that a caption cut short may end with, and a sentence may not."""


# -- what people write to steer a story

WORDS_FOR_SHORT = _words("short shorter shorten brief briefly briefer summary summarise summarize")
WORDS_FOR_MORE = _words("more longer detail details detailed continue further else")
WORDS_FOR_BEGINNING = _words("begin beginning start first")
WORDS_FOR_END = _words("end ending finish last")
ORDERS = _words("tell say make add write describe let give focus explain mention show use put go keep please")
"""What a line begins with that asks for something, rather than telling it."""

LEADS = _words("then and but so suddenly finally later meanwhile afterwards now")
"""What may come before the subject of a sentence."""

SPEAKERS = _words("he she it they we nobody everybody everyone somebody someone nothing everything")
"""What a sentence may begin with, and a question or a wish hardly does."""

SMALL_TALK = (
    LEADS
    | SPEAKERS
    | _words(
        """
        or what where there who when why how story film picture pictures me us you i be been do does did not
        something anything any as like my want would could should can please thing things bit
        """
    )
)
"""What a line may have in it without naming a thing."""

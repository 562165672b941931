"""English words with an apostrophe, abbreviations, and words written large.

Plain tables for the rules of `spacing` and `casing`; a word that is in none of
them is set like any other.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Endings after an apostrophe: it's, don't, I'm, he'd, we'll, they're, I've.
ENDINGS = _words("s t m d ll re ve")

# Words that lost their beginning: 'tis, 'em, and the dropped h of London.
ELIDED = _words(
    "tis twas twere twill twould twasn tisn tain em im un uns bout bove cept cos "
    "cause gainst neath nough nuff pears pon scuse spect spects spose taint tween "
    "twixt lowed fore fraid prentice prentices possum ee ere eres e ad ave aven avin "
    "ome ouse ouses ead eads ard arf alf imself isself erself oo ow ope orse "
    "orses undred igh ear eard eart eaven ell elp ole er ers eavy appen appened "
    "aving ud ull ooman omesick cute tarnal rithmetic n most is at round"
)

# Words cut short before a full word: an' so, th' old, wi' me.
CUT = _words(
    "an wi ha th tha unc n kep ol no jus jes mos aun natur fo yo awa gi t h lor "
    "mo po foun han worl groun roun aroun behin fin frien sen lef lif ca fa wa sma "
    "himsel mysel hersel itsel yersel thysel nex firs agains mus tho thro"
)

# What an apostrophe joins to any word behind it: d'you, s'pose, ma'am; French and
# Italian too.
PREFIXES = _words(
    "b c d e f g j l m n p q r s t y ma ne "
    "qu jusqu lorsqu puisqu aujourd un all dall dell nell sull"
)

# After `o '` these begin a new word (o' the); any other is joined (o'clock).
AFTER_O = _words(
    "the this that these those my your his her its our their a an em it him me us "
    "you them ye yer mine yours hers one two three all any some such what which "
    "course late nights day night work men man water gold silver things mind"
)

# Second letter joined to the first: a.m., i.e.; but J. R. Smith.
DOTTED_PAIRS = _words("am pm ie eg qc mp us mc ps ok md")

# Abbreviations whose full stop ends no sentence and that a name follows.
TITLES = _words(
    "mr mrs messrs dr prof rev hon st mme mlle capt col gen lieut lt sgt sergt"
)

# Abbreviations whose full stop ends no sentence.
ABBREVIATIONS = TITLES | _words("vs viz cf esq vol chap fig")

# Written large wherever they stand.
PROPER = _words(
    "monday tuesday wednesday thursday friday saturday sunday january february april "
    "june july september october november december christmas easter english french "
    "german spanish italian dutch irish scotch american indian england france germany "
    "spain italy ireland scotland america india europe london paris rome"
)

# After `!"` or `?"` these go on with the sentence around the quotation.
SPEAKERS = _words(
    "he she they said cried asked exclaimed replied answered shouted returned "
    "repeated murmured whispered demanded inquired continued added called ejaculated "
    "echoed muttered gasped screamed roared thought interrupted was"
)

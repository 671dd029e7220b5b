"""Which language a text is in: a guess from its script and its most frequent words, good for shares over many texts
and wrong for some single ones. No model, a few microseconds."""

import re

HEAD = 400  # characters that are looked at
SCRIPTS = {  # in the order of asking: Japanese has Chinese characters too
    "Japanese": (re.compile("[\u3040-\u30ff]+"), 0.1),
    "Korean": (re.compile("[\uac00-\ud7af]+"), 0.1),
    "Chinese": (re.compile("[\u4e00-\u9fff]+"), 0.1),
    "Cyrillic script": (re.compile("[\u0400-\u04ff]+"), 0.2),
    "Arabic script": (re.compile("[\u0600-\u06ff]+"), 0.2),
    "Hebrew": (re.compile("[\u0590-\u05ff]+"), 0.2),
    "Greek": (re.compile("[\u0370-\u03ff]+"), 0.2),
    "Indic script": (re.compile("[\u0900-\u0dff]+"), 0.2),
    "Thai": (re.compile("[\u0e00-\u0e7f]+"), 0.2),
}
_BEYOND_LATIN = re.compile("[\u0370-\u0eff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
# Without words that are frequent in English too: "do", "a", "die", "was".
_FREQUENT = {
    "English": "the of and to is in that for it with as was on are this be by you what how i my can have from at or "
    "an a we they your not but if so me no will would all there about which when more just do its im dont",
    "German": "der und das ist nicht ein eine zu den mit von für auf sich dem des wie ich auch es sie wird einen oder",
    "French": "le la les des et est une un dans que pour qui sur pas avec plus ce sont vous je du au il elle nous",
    "Spanish": "el la los las de y es una un en que por con para se del al cómo qué su como lo más son",
    "Italian": "il la di e che è una un per non con sono del della come si gli le nel più questo ho anche",
    "Portuguese": "o os de e é uma um em que por com para não se da como mais na dos das você ao pelo isso",
    "Dutch": "de het een en van dat niet op te zijn met voor ik je wat er aan ook als maar bij wordt",
    "Polish": "w nie na się jest z że jak o co dla od po jego są przez ale oraz lub może",
    "Turkish": "ve bir bu için ile da ne çok mi gibi olarak daha olan var kadar sonra",
    "Swedish": "och att det som en på är av för inte den till med har ett jag de om vi kan",
    "Indonesian": "yang dan di dengan untuk ini itu dari tidak adalah pada ke dalam akan atau juga saya anda bisa",
    "Vietnamese": "và của là không có những được trong cho một các người này khi với đã để",
}
STOP_WORDS = [frozenset(words.split()) for words in _FREQUENT.values()]
_ALL_FREQUENT = frozenset().union(*STOP_WORDS)
LANGUAGES = ("unknown", *SCRIPTS, *_FREQUENT)
"""Names; the features hold a text's language as an index into them."""

UNSPACED = frozenset(LANGUAGES.index(name) for name in ("Japanese", "Chinese", "Thai"))
_FIRST_LATIN = 1 + len(SCRIPTS)
_VOTERS = 80  # words that vote
_NEEDED = 2  # frequent words that decide


def language_of(text: str, words: list[str]) -> int:
    """Index into LANGUAGES; `words`: those of `text`, lower case. 0 where nothing tells: too short, a formula, code."""
    head = text[:HEAD]
    if not head.isascii() and (script := _script(head)):
        return script
    voters = _ALL_FREQUENT.intersection(words[:_VOTERS])
    votes = [len(voters & frequent) for frequent in STOP_WORDS]
    best = max(votes)
    return _FIRST_LATIN + votes.index(best) if best >= _NEEDED and votes.count(best) == 1 else 0


def _script(head: str) -> int:
    if not _BEYOND_LATIN.search(head):
        return 0
    letters = sum(map(str.isalpha, head))
    for index, (pattern, share) in enumerate(SCRIPTS.values(), start=1):
        if sum(map(len, pattern.findall(head))) > share * letters:
            return index
    return 0

"""A light guess of a text's language: its script, else its function words and letters. Says "" when unsure.

Made to see that a table mixes languages, not to identify every text: 17 languages in Latin script by their commonest
function words (a word counts less the more languages share it) and by letters that few of them use; other scripts by
Unicode range. Short texts without a function word stay unsure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FUNCTION_WORDS = {
    "en": "the and is are was were to of in for with on my your you i it this that have has had not can could would how what "
    "when where why who please from at be been do does did an as if but we they our will there about or by me am which get",
    "de": "der die das und ist sind war nicht ich sie wir ihr mein meine meinen meiner mir mich ein eine einen einer einem zu "
    "von mit auf für den dem des im in an bei nach wie was wo wann warum wer bitte aber oder wenn auch kann habe haben hat "
    "wird werden noch nur schon seit über kein keine uns es am um als aus zum zur dass",
    "fr": "le la les un une des et est sont pas ne je vous nous il elle mon ma mes votre vos de du au aux dans pour avec sur "
    "que qui où quand comment pourquoi ce cette ces mais ou si plus j'ai c'est bonjour merci suis avez être en par se son sa",
    "es": "el la los las un una unos y es son no yo usted ustedes mi mis su sus de del al en para con por que qué cómo cuándo "
    "dónde quién este esta esto pero o si más muy hola gracias tengo puedo ha he hay está están me se lo le como cuando",
    "it": "il lo la gli le un una uno e è sono non io mio mia miei di del della dei delle al alla nel nella per con su che chi "
    "come quando dove perché questo questa ma o se più ciao grazie ho ha posso mi si ci da dal ed anche",
    "pt": "o a os as um uma e é são não eu meu minha meus você vocês de do da dos das em no na nos nas para com por que como "
    "quando onde quem este esta isto mas ou se mais muito olá obrigado tenho posso está ao à pelo foi",
    "nl": "de het een en is zijn was niet ik jij u wij mijn uw jullie van voor met op in aan bij naar te hoe wat waar wanneer "
    "waarom wie maar of als ook kan heb hebben heeft wordt nog geen er dat dit die deze om uit over graag",
    "sv": "och det är att en ett inte jag du vi ni min mitt mina din på av för med som till från hur vad när var varför vem men "
    "eller om har kan den de ska har kunde mig hej tack även",
    "da": "og det er at en et ikke jeg du vi min mit mine din på af for med som til fra hvordan hvad hvornår hvor hvorfor hvem "
    "men eller hvis har kan den de skal mig hej tak også efter blev",
    "no": "og det er at en et ikke jeg du vi min mitt mine din på av for med som til fra hvordan hva når hvor hvorfor hvem men "
    "eller hvis har kan den de skal meg hei takk også etter ble",
    "fi": "ja on ei en se että minä sinä minun oli ovat mutta tai jos kun miten mikä missä milloin miksi kuka voi ole tämä olen "
    "myös kuin niin hei kiitos mitä joka",
    "pl": "i w na z nie jest są to że się do jak co gdzie kiedy dlaczego kto mój moja moje proszę dla od po przez ale lub czy "
    "mam może już tylko dziękuję mnie jestem za o jego",
    "cs": "a je jsou není v na z že se do jak co kde kdy proč kdo můj moje prosím pro od po přes ale nebo zda mám může už jen "
    "děkuji jsem mi za o si který",
    "tr": "ve bir bu da de için ile ne nasıl nerede neden kim ben benim siz değil mi mı var yok ama veya çok daha lütfen teşekkür "
    "olarak gibi kadar olan",
    "ro": "și este sunt nu eu meu mea de din la în pe cu pentru că ce cum când unde cine acest această dar sau dacă mai foarte "
    "am are mulțumesc să al ale un o",
    "hu": "a az és nem van egy hogy én az ez mi hol mikor miért ki de vagy ha is már csak kérem köszönöm nekem meg volt lesz "
    "nincs még mint",
    "id": "yang dan di ke dari ini itu tidak saya anda kami untuk dengan pada apa bagaimana kapan mana siapa tetapi atau jika "
    "sudah akan bisa ada adalah terima kasih tolong juga",
}  # fmt: skip
LETTERS = {
    "de": "ß", "fr": "œùêîû", "es": "ñ¿¡", "pt": "ãõ", "sv": "", "da": "æ", "pl": "łąęśżźćń", "cs": "řěůťď", "tr": "ğış",
    "ro": "țșă", "hu": "őű",
}  # fmt: skip
SCRIPTS = (
    ("ru", "\u0400", "\u04ff"), ("el", "\u0370", "\u03ff"), ("he", "\u0590", "\u05ff"), ("ar", "\u0600", "\u06ff"),
    ("hi", "\u0900", "\u097f"), ("th", "\u0e00", "\u0e7f"), ("ja", "\u3040", "\u30ff"), ("ko", "\uac00", "\ud7af"),
    ("zh", "\u4e00", "\u9fff"),
)  # fmt: skip
"""(code of the script's commonest language, first and last character)."""
NAMES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "sv": "Swedish", "da": "Danish", "no": "Norwegian", "fi": "Finnish", "pl": "Polish", "cs": "Czech", "tr": "Turkish",
    "ro": "Romanian", "hu": "Hungarian", "id": "Indonesian", "ru": "Cyrillic script", "el": "Greek", "he": "Hebrew",
    "ar": "Arabic script", "hi": "Devanagari script", "th": "Thai", "ja": "Japanese", "ko": "Korean", "zh": "Chinese",
}  # fmt: skip
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
MAX_CHARACTERS = 1000
LEAD = 0.9
"""Evidence that the best language must have beyond the second: a bit less than one word that no other language has."""


def _weights() -> dict[str, tuple[tuple[str, float], ...]]:
    owners: dict[str, list[str]] = {}
    for code, words in FUNCTION_WORDS.items():
        for word in set(words.split()):
            owners.setdefault(word, []).append(code)
    return {word: tuple((code, 1 / len(codes)) for code in codes) for word, codes in owners.items()}


WEIGHTS = _weights()


def guess_language(text: str) -> str:
    """The code of a text's language by its first 1,000 characters, or "" when the evidence is thin."""
    text = text[:MAX_CHARACTERS].lower()
    if not text.isascii() and (code := _by_script(text)):
        return code
    score: dict[str, float] = {}
    words = WORD.findall(text)
    for word in words:
        for code, weight in WEIGHTS.get(word, ()):
            score[code] = score.get(code, 0.0) + weight
    if not text.isascii():
        for code, letters in LETTERS.items():
            if hits := sum(text.count(letter) for letter in letters):
                score[code] = score.get(code, 0.0) + min(hits, 3) * 0.5
    if not score:
        return ""
    (best, most), *rest = sorted(score.items(), key=lambda item: -item[1])
    second = rest[0][1] if rest else 0.0
    return best if most - second >= LEAD and most >= 0.1 * len(words) else ""


OTHER_SCRIPTS = re.compile("[" + "".join(f"{first}-{last}" for _, first, last in SCRIPTS) + "]")


def _by_script(text: str) -> str:
    # the usual case: Latin script with typographic signs
    if not OTHER_SCRIPTS.search(text):
        return ""
    letters = [ch for ch in text if ch.isalpha()]
    # kana before Han: Japanese uses both
    for code, first, last in SCRIPTS:
        if sum(first <= ch <= last for ch in letters) > 0.3 * max(1, len(letters)):
            return code
    return ""


def languages(texts: Sequence[str]) -> list[str]:
    """`guess_language` of each text."""
    return [guess_language(text) for text in texts]

"""Cleaning of captions from the web. Each rule gives the caption as it should be, or None where it is none."""

import html
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import ftfy

from .moderation import listed_word

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# Enough languages that a foreign caption finds its own, few enough that a short English one finds no other.
LANGUAGES = re.findall(r"\w+", "ar cs da de el en es fi fr hi hu id it ja ko nl no pl pt ro ru sv tr uk vi zh")
LEAST_ENGLISH = 0.1
LEAST_LETTERS = 0.7

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
TAG = re.compile(r"</?[a-z!][^<>]*>|\[/?(?:b|i|u|url|img|quote|caption|gallery|size|color)\b[^\[\]]*\]", re.I)
LEFT_OF_MARKUP = re.compile(r"[{}<>\\]|&#?\w+;")
SEPARATOR = re.compile(r"\s*[|•·»]+\s*|\s+[-–—]+\s+")
NOISE_WORD = re.compile(
    r"royalty|free|stock|rights|managed|photo(?:graph|graphy)?s?|images?|pictures?|pics?|vectors?|illustrations?|clipart"
    r"|clip|art|footage|wallpapers?|backgrounds?|prints?|posters?|hd|4k|desktop|mobile|high|resolution|quality|editorial"
    r"|downloads?"
)
SITE = re.compile(
    r"\b(?:shop|store|outlet|boutique|blog|home ?page|official site|official website|shutterstock|istock|getty images"
    r"|alamy|dreamstime|depositphotos|123rf|adobe stock|pixabay|unsplash|pexels|pinterest|etsy|ebay|amazon|redbubble"
    r"|society6|zazzle|fine art america|saatchi art|deviantart|artstation|behance|flickr|tumblr|instagram|facebook"
    r"|twitter|youtube|reddit|wikipedia|wikimedia commons|wordpress)\b",
    re.I,
)
CREDIT = re.compile(r"[\s,;:(|–—-]*\b(?:photo(?:graph)?|image|picture)s?\s(?:by|via|credit|courtesy)\b.*$", re.I)
ADVERTISING = re.compile(
    r"[$€£¥]\s?\d|\d\s?(?:€|£|usd|eur|gbp)\b|\d\s?% off\b|©|\(c\)|[™®]"
    r"|\b(?:downloads?|for sale|on sale|buy now|free shipping|in stock|sold out|add to cart|pre-?order|best price"
    r"|discount|coupon|click (?:here|to|for)|read more|all rights reserved|royalty.free|thumbnail|screenshot|isbn"
    r"|untitled|shutterstock|istock|dreamstime|depositphotos|alamy)\b",
    re.I,
)
CONTACT = re.compile(r"\S+@\S+\.\w|(?<!\w)@\w|\+?\d(?:[\s().-]*\d){8,}")
URL = re.compile(r"https?:|www\.|\b[\w-]+\.(?:com|net|org|info|biz|edu|gov|co\.uk|de|fr|nl|pl|ru)\b", re.I)
FILE_NAME = re.compile(
    r"\.(?:jpe?g|png|gif|webp|tiff?|bmp|psd|svg|eps|pdf|heic|cr2|nef|mp4|mov)\b"
    r"|\b(?:img|dscn?f?|pict|gopr?|mvi|sam|cimg|pano|screen ?shot)[ _-]?\d{3,}"
    r"|[^\W_]_+[^\W_]",
    re.I,
)


def characters(text: str) -> str | None:
    """Mends text decoded wrongly, drops control and invisible characters; turns away what was no UTF-8."""
    text = INVISIBLE.sub("", ftfy.fix_text(text, unescape_html=False, uncurl_quotes=False))
    return None if "\ufffd" in text else " ".join(text.split())


def markup(text: str) -> str | None:
    """Resolves entities and takes tags off; turns away what still looks like code."""
    text = " ".join(TAG.sub(" ", html.unescape(html.unescape(text))).split())
    return None if LEFT_OF_MARKUP.search(text) else text


def boilerplate(text: str) -> str | None:
    """Cuts off credits and what stock agencies, shops and sites add before and after; turns away advertising."""
    text = CREDIT.sub("", text)
    while (first := SEPARATOR.search(text)) and is_noise(text[: first.start()]):
        text = text[first.end() :]
    while (separators := list(SEPARATOR.finditer(text))) and is_noise(text[separators[-1].end() :]):
        text = text[: separators[-1].start()]
    return None if ADVERTISING.search(text) else text


def is_noise(part: str) -> bool:
    """Whether a part of a caption names a site, or says nothing but that it is a picture."""
    return all(map(NOISE_WORD.fullmatch, re.findall(r"\w+", part.lower()))) or SITE.search(part) is not None


def contact(text: str) -> str | None:
    """Turns away e-mail addresses, handles and telephone numbers."""
    return None if CONTACT.search(text) else text


def url(text: str) -> str | None:
    """Turns away addresses of the web."""
    return None if URL.search(text) else text


def file_name(text: str) -> str | None:
    """Turns away names of files, such as IMG_1234 or red_barn.jpg."""
    return None if FILE_NAME.search(text) else text


def symbols(text: str) -> str | None:
    """Turns away what is mostly digits and symbols: under LEAST_LETTERS of it are letters, spaces apart."""
    signs = "".join(text.split())
    return text if sum(map(str.isalpha, signs)) >= LEAST_LETTERS * len(signs) else None


def moderation(text: str) -> str | None:
    """Turns away what the list of moderation.txt names."""
    return None if listed_word(text) else text


def language(text: str) -> str | None:
    """Turns away what is English with a probability under LEAST_ENGLISH only: a short title may be anything."""
    return text if dict(identifier().rank(text))["en"] >= LEAST_ENGLISH else None


@cache
def identifier() -> "LanguageIdentifier":
    """The language model, among LANGUAGES."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


Rule = Callable[[str], str | None]

MENDING: dict[str, Rule] = {rule.__name__: rule for rule in (characters, markup, boilerplate)}
JUDGING: dict[str, Rule] = {rule.__name__: rule for rule in (contact, url, file_name, symbols, moderation, language)}
RULES = MENDING | JUDGING
"""The rules by name, in the order in which they are applied."""

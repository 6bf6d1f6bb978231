"""Words around a concept: commands before it, and what in a prompt speaks of the picture instead of a thing in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from .prompt_syntax import ARTICLES, DETERMINERS, tidy

COMMAND = re.compile(
    r"""(?ix) (?:please\s+)?
    (?:(?:can|could|would|will)\s+you\s+(?:please\s+)?)?
    (?:(?:i|we)\s+(?:want|need|wish|would\s+like)\s+(?:(?:you|it|(?:this|the|my)\s+(?:model|checkpoint))\s+)?to\s+)?
    (?:(?:make|let|have|get)\s+(?:it|(?:this|the|my)\s+(?:model|checkpoint))\s+(?:to\s+)?)?
    (?:forget|unlearn|remove|erase|delete|eliminate|get\s+rid\s+of|no\s+more|fewer|less(?!\s+(?:is|than|of)\b)
      |stop\s+(?:drawing|making|generating|showing|painting)
      |(?:don['’]?t|do\s+not|never)\s+(?:draw|make|generate|show|paint))
    (?:\s*:\s*|\s+)(?:(?:everything|anything|all)\s+(?:about|of|with)\s+|about\s+|how\s+to\s+draw\s+|the\s+(?:concept|word|idea)\s+(?:of\s+)?)?
    """
)
"""What people say to a machine, in front of the noun."""
AFTER = re.compile(
    r"(?i)(?:\s+(?:please|only|etc\.?|and so on|and others"
    r"|forever|for good|completely|entirely|any\s?more|again|at all|for me|now"
    r"|(?:from|in) (?:this|the|my) (?:model|checkpoint|pictures?|images?)))+$"
)
"""And what they say behind it."""
BEFORE = re.compile(
    r"(?i)(?:(?:only|just|also|then|first|second|third|finally|lots\s+of|a\s+lot\s+of"
    r"|(?:all\s+)?(?:kinds|sorts|types)\s+of|(?:everything|anything|all)\s+(?:about|of|with)|about)\s+)+"
)
"""And what they say right before it."""
SPOKEN_OF = re.compile(r"(?i)(?:concept|idea|notion|word|term)\b(?:\s+of\b)?\s*:?\s+")
"""How people speak of a word, after an article: the concept of cats, the word cat, concept: cat."""
QUALITY = {
    *("masterpiece", "best quality", "high quality", "highest quality", "low quality", "worst quality", "highres"),
    *("absurdres", "lowres", "hires", "hd", "uhd", "hdr", "4k", "8k", "16k", "1080p", "ultra hd", "sharp focus"),
    *("depth of field", "bokeh", "trending on artstation", "artstation", "octane render", "unreal engine", "raw photo"),
    *("solo", "nsfw", "sfw", "full body", "upper body", "cowboy shot", "close up", "close-up", "looking at viewer"),
    *("newest", "official art", "beautiful", "detailed", "intricate", "realistic", "cinematic", "professional"),
    *("award winning", "award-winning", "vivid colors", "simple background", "smile", "smiling", "blush", "standing"),
    *("sitting", "walking", "running", "looking", "laughing", "crying", "sleeping", "lying", "outdoors", "indoors"),
}
"""Tags that name no thing."""
DESCRIPTION = re.compile(
    r"""(?ix)
    \d+\+?\s*(?:girl|boy|other|man|woman|people)s?
    | (?:score|rating|source|year)[\s_:]*[\w\s]*
    | (?:very|highly|extremely|ultra|super|insanely|hyper|intricate|beautiful|stunning|gorgeous)[\s-].*
    | (?:in|on|at|with|without|wearing|holding|sitting|standing|lying|looking|against|under|behind|from)\s.*
    | .*\s(?:quality|detailed|details|resolution|lighting|background|focus|hair|eyes|viewer|composition|skin|lens|shot
      |angle|aesthetic|pose)
    """
)
"""Parts of prompts that say how many, how well, where or how."""


def is_description(part: str) -> bool:
    """Whether a part of a prompt says how the picture is to be, and names nothing in it."""
    plain = part.replace("_", " ").casefold()
    return plain in QUALITY or DESCRIPTION.fullmatch(plain) is not None


def without_command(text: str, is_known: Callable[[str], bool], is_term: Callable[[str], bool] | None = None) -> str:
    """What is to be forgotten in "please forget the cats"; the text itself where it is no command.

    is_term: the same of more words, where little is said before the noun: "all kinds of birds".
    Titles stay whole, as "Forget Paris" does, unless the rest is known; so does what is spoken of, "the word cat".
    """
    found = COMMAND.match(text)
    if not found:
        spoken = SPOKEN_OF.match(text)
        said = AFTER.sub("", text[spoken.end() :] if spoken else text)
        before = BEFORE.match(said)
        said = said[before.end() :] if before else said
        known = is_known(said) or (before and is_term and is_term(said))
        # Apocalypse Now is a name
        return said if said and known and not text.split()[-1][0].isupper() else text
    words = AFTER.sub("", text[found.end() :]).split()
    while len(words) > 1 and words[0].casefold() in ARTICLES | DETERMINERS:
        words = words[1:]
    rest = tidy(" ".join(words))
    if rest and is_known(rest):
        return rest
    if not rest or words[0].casefold() in ("me", "it", "not") or (text[0].isupper() and rest[0].isupper()):
        return text
    return rest

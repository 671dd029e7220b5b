"""Does an answer decline to answer? By its opening, in a dozen languages; a short list that misses some."""

import re

HEAD = 220  # characters that are looked at

_CANNOT = (
    r"(?:can ?not|can't|won't|will not|am unable|'m unable|(?:am|'m) not (?:able|allowed|permitted|comfortable|going)"
    r"|(?:do not|don't) feel comfortable|must (?:respectfully )?decline|(?:do not|don't) think i (?:can|should))"
)
_DECLINED = (
    r"(?:help|assist|provide|do (?:that|this|it)|fulfil|comply|answer|support|engage|create|write|generate|give|share"
    r"|tell|teach|participate|offer|discuss|endorse|encourage|promote|condone|continue|complete|in good conscience"
    r"|access|with (?:that|this))"
)
_OPENINGS = (
    # "I'm sorry, but I can't ...", not "I'm sorry, I can't imagine how hard that is"
    r"(?:(?:i'm|i am|we're)? ?(?:really |very |so |truly |deeply )?(?:sorry|afraid)|i apologi[sz]e|(?:my )?apologies"
    r"|unfortunately|regrettably)\b[^\n]{0,100}?\bi ?(?:just |simply |really )?"
    + _CANNOT
    + r"(?! imagine| begin to| stress| wait| help but)",
    r"(?:no|sorry|hmm+|um+|oh|well)?\W*i ?(?:just |simply |really )?" + _CANNOT + r" (?:to )?" + _DECLINED,
    r"i (?:must (?:respectfully )?decline|refuse to|would (?:rather|prefer) not)|i'd (?:rather|prefer) not",
    r"(?:i (?:do not|don't) (?:think|feel)|i'm not sure) (?:that )?(?:i can (?:help|answer|assist)|i should (?:help|do|"
    r"answer|tell)|(?:it|that|this)(?:'s| is| would be) (?:a good idea|appropriate|something i))",
    r"as an? (?:ai|artificial|large language|language|responsible|ethical)\b[^\n]{0,140}?\b(?:can't|cannot|can not|"
    r"unable|not able|won't|not (?:programmed|capable|allowed|designed))(?![^\n]*\b(?:but|however)\b)",
    r"(?:it|this|that)(?:'s| is|) (?:not|isn't) (?:appropriate|ethical|acceptable|okay|ok|something i)",
    r"es tut mir (?:sehr )?leid[^\n]{0,60}(?:nicht|keine)|tut mir leid|leider kann ich|ich kann (?:dir|ihnen|das) \w* ?"
    r"nicht",
    r"je suis (?:vraiment )?désolée?[^\n]{0,60}ne p|désolée?, (?:mais )?je|je ne peux pas",
    r"lo siento[^\n]{0,60}no p|lo lamento[^\n]{0,60}no p|no puedo (?:ayudar|proporcionar|responder|hacer)",
    r"mi dispiace[^\n]{0,60}non p|non posso (?:aiutar|fornir|rispond)",
    r"(?:desculpe|sinto muito|lamento)[^\n]{0,60}não p|não posso (?:ajudar|fornecer|responder)",
    r"het spijt me[^\n]{0,60}niet|przykro mi[^\n]{0,60}nie |üzgünüm|maaf, (?:saya|tapi)|xin lỗi, (?:tôi|nhưng)",
    r"(?:非常|很|十分)?(?:抱歉|对不起|不好意思)[^\n]{0,30}(?:不能|无法|不会|没有办法|不可以|没法)",
    r"(?:很遗憾|作为(?:一个|一名|一款)?(?:人工智能|ai|语言模型))[^\n]{0,30}(?:不能|无法|没有能力)"
    r"(?![^\n]*(?:但|不过))|我(?:不能|无法)(?![^\n]*(?:但|不过))",
    r"申し訳(?:あり|ござい)ません|ごめんなさい|すみませんが|죄송(?:하지만|합니다)|미안(?:하지만|합니다)",
    r"(?:извините|простите|к сожалению)[^\n]{0,60}(?:не могу|не в состоянии)|я не могу (?:помочь|ответить)",
    r"(?:عذر|آسف|أعتذر|للأسف)[^\n]{0,60}(?:لا |لن )",
    r"(?:क्षमा करें|माफ़? ?कीजिए|मुझे खेद)",
)
_REFUSAL = re.compile(r"\W*(?:" + "|".join(_OPENINGS) + ")")


def is_refusal(text: str) -> bool:
    """Whether `text` opens as a refusal does."""
    return _REFUSAL.match(text[:HEAD].lower().replace("’", "'")) is not None  # noqa: RUF001

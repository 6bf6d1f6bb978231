"""The quotes, brackets and stops of Chinese, Japanese and other keyboards, in what an artist types."""

import pytest

from tests.tiny import WORDS
from unlearn_core import BadSetting
from unlearn_core.words.wish import read_wish
from unlearn_core.words.word_list import WordList

LISTS = [WordList.load(WORDS), WordList.load(None)]
CAT = [
    "「猫」",
    "『猫』",
    "『「猫」』",
    "｢猫｣",
    "〝猫〞",
    "【猫】",
    "「猫",
    "猫」",
    "＂猫＂",
    "猫。",
    "猫｡",
    "猫！？",
    "…猫…",
]
WEIGHTED = ["（猫:1.2）", "（猫：１．２）", "（（猫））", "｛猫｝", "（「猫」：1.2）"]
CAT_AND_DOG = ["猫｜犬", "猫､犬", "「猫」「犬」", "『猫』、「犬」", "猫。，犬。"]


@pytest.mark.parametrize(
    ("typed", "concepts"),
    [
        *((typed, ("猫",)) for typed in (*CAT, *WEIGHTED)),
        *((typed, ("猫", "犬")) for typed in CAT_AND_DOG),
        *(("『呪術廻戦』", ("呪術廻戦",)), ("《三体》", ("三体",)), ("＜lora：x：1＞猫", ("猫",))),
        *(("banana。", ("banana",)), ("「banana」", ("banana",)), ("（Bananas：1.2）", ("banana",))),
        *(("cat／dog", ("cat", "dog")), ("アニメ「進撃の巨人」", ("アニメ進撃の巨人",)), ("「猫、犬」", ("猫、犬",))),
        *(("Re：ゼロ", ("Re:ゼロ",)), ("ＡＣ／ＤＣ", ("ＡＣ/ＤＣ",))),
        *(("hatsune_miku_（vocaloid）", ("hatsune miku (vocaloid)",)), ("¿gato?", ("gato",)), ("«chat»", ("chat",))),
        *(("‹chat›", ("chat",)), ("बिल्ली।", ("बिल्ली",)), ("قطة؟", ("قطة",))),
    ],
)
def test_signs_of_other_keyboards_are_read_as_those_of_ascii(typed, concepts):
    assert read_wish(typed, LISTS).concepts == concepts


@pytest.mark.parametrize(
    ("typed", "asked"), [("［cat｜dog］", "stands for several words"), ("「cat、dog」", "in quotes is one name")]
)
def test_they_are_questioned_as_those_of_ascii_are(typed, asked):
    with pytest.raises(BadSetting, match=asked):
        read_wish(typed, LISTS)
    assert read_wish(typed, LISTS, force=True).concepts

"""Shapes to try, from small to strange, with words that NFKC, JSON or Tanuki's tokenizer would change."""

from pathlib import Path
from typing import Final

SCHEMAS: Final = tuple((Path(__file__).parent / "schemas.jsonl").read_text(encoding="utf-8").splitlines())

PATTERNS: Final = (
    r"\d{3}-\d{4}",
    "(はい|いいえ|わかりません)",
    r"[ァ-ヶー]{2,8}",
    r"\p{Han}{1,4}",
    r"(?i:yes|no)",
    "（[^）]{1,6}）",
    "①②③|一二三",
    r"(令和|平成)(元|[1-9][0-9]?)年",
    r"[^\s\x1c-\x1f]{1,10}。",  # which are blanks only for Python
    "(a|ab|abc)(c|)",
    "😀{1,3}",
    r"</s>|<0x[0-9A-F]{2}>",
)

GRAMMARS: Final = (
    'start: "東" | "西"',
    'start: item ("、" item)~0..2\nitem: /[ぁ-ん]{1,3}/ | NUMBER\nNUMBER: /[0-9]{1,3}/',
    'start: "(" start ")" | "狸"',
    'start: "答え：" %json {"type": "object", "properties": {"点": {"enum": [1, 2]}}, "required": ["点"]}',
)

CHOICES: Final = (
    ("はい", "いいえ", "不明"),
    ("a", "ab", "abc"),
    ("（可）", "(可)"),
    ('引用"符', "改 行", "back\\slash"),
    ("東京都", "東京", "京都"),
)

"""Texts that tokenizers get wrong: rare Unicode, odd spaces, special tokens, long words. Shared by golden files and
tests."""
import random

HARD_TEXTS = [
    "", " ", "   \t\n  ", "\n", "a", "Hello, World!",
    "The quick brown fox can't jump; it won't, isn't and he's I'm we've you're.",
    "don't do not 've 're 's n't . , ! ?", "a . b , c ! d ? e ' f", "rock 'n' roll",
    "\u2018curly\u2019 \u201cquotes\u201d \u2014 dash\u2013dash \u2026",
    # combining marks, composed and not, in and out of canonical order
    "caf\u00e9 cafe\u0301 CAF\u00c9 na\u00efve \u00c5ngstr\u00f6m \u212bngstr\u00f6m",
    "a\u0301\u0316\u0323 a\u0323\u0316\u0301 e\u0302\u0301\u0323", "\u0301start \u0344 \u0345",
    "\u1ea5 \u1ed9 \u1e69 \u0217\u0231", "o\u0338\u0301 \u00f8\u0301 \u01ff \u0142 \u0110",
    "\u0f73\u0f75\u0f81 \u302e\u302f \u1b44",
    # case: Turkish, German, Greek, Cherokee, Georgian, Deseret, titlecase digraphs
    "\u0130stanbul I\u0307 \u0131 TITLE", "STRASSE stra\u00dfe STRA\u1e9eE",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03c3\u03c2 \u03a3",
    "\u01c4\u01c5\u01c6 \u01f1\u01f2 \u13a0\uab70 \u10a0\u1c90 \U00010400\U00010428",
    "\ua7c5\ua7cb\ua7dc \U00010570 \U00010d50 \U00016ea0", "\u2160\u2170 \u24b6\u24d0 \u0345\u1fb3 \u1fbc",
    # CJK, Hangul, kana, Thai, Devanagari, Tibetan, Khmer, Arabic, Hebrew
    "\u4e2d\u6587\u5206\u8bcd test\u4e2d\u6587test \u3007\u3400\U00020000\U0002a6df\uf900\U0002f800",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \ud7a3 \u3131",
    "\u30ab\u30bf\u30ab\u30ca \u3072\u3089\u304c\u306a \uff76\uff80\uff76\uff85 \u30d1 \u30cf\u309a \u304c",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e19\u0e49\u0e33",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0915\u093c \u0958", "\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0d",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u0629 \u0640\u0640 \u0660\u0661\u0662",
    "\u05e2\u05b4\u05d1\u05b0\u05e8\u05b4\u05d9\u05ea \u200f\u202eRTL\u202c \u2067x\u2069",
    # control, format and odd spaces
    "a\u0000b\u0001c\u0007d\u001be\u007ff\u0080g\u009fh", "tab\there\r\nline\rcr\x0bvt\x0cff\x85nel\u2028ls\u2029ps",
    "nb\u00a0sp en\u2002em\u2003thin\u2009hair\u200anarrow\u202fmath\u205fideo\u3000ogham\u1680x",
    "zero\u200bwidth\u200cnon\u200djoin\u2060word\ufeffbom soft\u00adhyphen \u180e mvs", "\ufffd \ufffe \uffff \ufdd0",
    "\ud7ff\ue000 \uf8ff \U000f0000 \U0010fffd \U0010ffff",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f "
    "\U0001f9d1\u200d\U0001f680",
    "\U000e0041\U000e007f \ufe00\ufe0f \U000e0100", "\u2066\u061c\u06dd\u070f\u08e2 \U000110bd \U0001d173",
    # compatibility forms
    "\ufb01\ufb02\ufb03 \u0133 \u2122 \u00bd \u2460 \u33a1 \u2116",
    "\uff28\uff45\uff4c\uff4c\uff4f\uff0c\uff11\uff12\uff13\uff01",
    "x\u00b2 H\u2082O \u00aa\u00ba \u2126\u03a9 K\u212a \u037e;\u0387\u00b7",
    "\U0001d400\U0001d4d0 \U0001f130 \U00011938 \U000105c9 \U00016121",
    # digits, symbols, addresses
    "3.14159, 1,000,000.50 1/2 50% $9.99 \u20ac10 \u00a35 +1-800-555-0100 1e-5",
    "user.name+tag@example.com https://example.com/a?b=c&d=%20#e",
    "C++ C# a_b __init__ <b>bold</b> {x: [1]} ~`@#$%^&*()|\\",
    "\u00a1Hola! \u00bfQu\u00e9? \u00a7 \u00b6 \u2022 \u00ac \u00d7 \u2260 \u2211 \u221e \u2192 \u2588",
    "\u09fd\u2e43\u2e4f\u061d \u0bf3 \U0001e95e", "year 2024\u00b9\u2070 \u0967\u0968 \u4e00\u4e8c \u2167 \u00bc",
    # long words
    "a" * 99, "a" * 100, "a" * 101, "\u00e9" * 100, "e\u0301" * 100, "\u4e00" * 120,
    "supercalifragilisticexpialidocious" * 3, "-" * 120, "word " * 300, "x" * 5000,
    # special tokens inside the text
    "[CLS] a [SEP] b [MASK] c [PAD] d [UNK]", "x[MASK]y [mask] [ MASK ] [MASK][MASK]",
    "<s> a </s> b <pad> <unk> <mask> x<mask> y", "a  <mask>  b<mask>", "<extra_id_0> is <extra_id_99>x<extra_id_100>",
    "<|endoftext|>a<|im_start|>user\nhi<|im_end|>", "[SEP", "[[SEP]]", "\u4e2d[SEP]\u6587",
    # spaces and line ends as byte-level tokenizers see them
    "  two  three   four    end  ", "\n\n a\n\n  b \n", "a\n", "  x", "tab\t\tb", "I'll we'd they'll 'LL 'S 's'",
    "if x:\n    return y  # 1234567890\n",
]


def random_texts(count, seed=7):
    """Random mixtures: code points of all planes, marks, spaces and words."""
    rng = random.Random(seed)
    pools = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0xFFF),
             (0x1000, 0x1FFF),
             (0x2000, 0x2FFF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xA000, 0xD7FF), (0xE000, 0xFFFF),
             (0x10000, 0x1FFFF), (0xE0000, 0x10FFFF)]
    words = ["the", "Movie", "was", "great", "n't", "'s", "[SEP]", "[MASK]", " ", "  ", "\n", ".", ",", "123", "\u00e9",
             "\u0301"]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 25)):
            if rng.random() < 0.4:
                parts.append(rng.choice(words))
            else:
                parts.append(chr(rng.randint(*rng.choice(pools))))
            if rng.random() < 0.3:
                parts.append(" ")
        texts.append("".join(parts))
    return texts


def mark_texts(count, seed=11):
    """Letters under random piles of combining marks, for canonical order."""
    import unicodedata

    rng = random.Random(seed)
    marks = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
    return ["".join(rng.choice("aeoxE\u00e9\u0f71") + "".join(rng.choice(marks) for _ in range(rng.randint(1, 4))) for _
                    in range(6)) for _ in range(count)]

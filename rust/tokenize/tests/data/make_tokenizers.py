"""Writes tokenizers/*.json: small tokenizers of the kinds that models use, trained on a few sentences.

Usage: make_tokenizers.py (needs `tokenizers`).
"""

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = Path(__file__).parent / "tokenizers"
CORPUS = [
    "the quick brown fox jumps over the lazy dog and it's what they're used to, isn't it?",
    "hello world, how are you today? I'm fine; we'll see 12345 things for 67 of them.",
    "def main(argument):\n    return argument + 1\n\n\nfor number in range(10):\n\tprint(number)",
    "Grüße aus Österreich, café naïve — 你好世界 こんにちは emoji 😀 done.",
] * 4
LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT_4O = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]


def special(*texts: str) -> list[AddedToken]:
    """Special tokens as most models have them."""
    return [AddedToken(text, special=True, normalized=False) for text in texts]


def bpe(normalizer: object, pre_tokenizer: object, *, byte_level: bool, words: bool = True, **model: object) -> Tokenizer:
    """A BPE tokenizer with the usual special tokens."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    if not byte_level and words:
        # What SentencePiece does when it trains: no token reaches over a space.
        tokenizer.normalizer, tokenizer.pre_tokenizer = None, pre_tokenizers.Metaspace(prepend_scheme="first")
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["▁"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=["<unk>"], show_progress=False)
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(special(*SPECIAL))
    return tokenizer


def around(tokenizer: Tokenizer, before: str, after: str) -> Tokenizer:
    """Puts special tokens around texts."""
    names = [name for name in (before, after) if name]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(), special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )
    return tokenizer


def split(*patterns: str) -> pre_tokenizers.PreTokenizer:
    """Split by patterns, then bytes."""
    return pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def overlapping() -> Tokenizer:
    """Added tokens that overlap, eat spaces, contain spaces, or want words around them."""
    tokenizer = bpe(normalizers.Lowercase(), pre_tokenizers.ByteLevel(add_prefix_space=True), byte_level=True)
    tokenizer.add_special_tokens(special("<a>", "<a><b>", "a>>", "x<s", "[[", "]]"))
    tokenizer.add_special_tokens(
        [
            AddedToken("<l>", lstrip=True, normalized=False),
            AddedToken("<r>", rstrip=True, normalized=False),
            AddedToken("<w>", single_word=True, normalized=False),
            AddedToken("<s><l>", lstrip=True, normalized=False),
        ]
    )
    tokenizer.add_tokens(
        [AddedToken("fox jumps", normalized=True), AddedToken("DOG", normalized=True, single_word=True), AddedToken("  ", normalized=False)]
    )
    return tokenizer


def main() -> None:
    """Trains and writes each."""
    spm = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    wordpiece.add_special_tokens(special(*SPECIAL))
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    unigram.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False))
    unigram.add_special_tokens(special(*SPECIAL))
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made = {
        "gpt2": bpe(None, pre_tokenizers.ByteLevel(add_prefix_space=False), byte_level=True),
        "llama3": around(bpe(None, split(LLAMA_3), byte_level=True, ignore_merges=True), "<s>", ""),
        "qwen": bpe(normalizers.NFC(), split(QWEN), byte_level=True),
        "gpt4o": bpe(None, split(GPT_4O), byte_level=True),
        "deepseek": around(bpe(None, split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK), byte_level=True), "<s>", ""),
        "llama2-legacy": around(bpe(spm, None, byte_level=False, unk_token="<unk>", fuse_unk=True), "<s>", ""),
        "mistral": around(bpe(None, metaspace, byte_level=False, unk_token="<unk>", fuse_unk=True), "<s>", "</s>"),
        "gemma": bpe(
            normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), byte_level=False, unk_token="<unk>", fuse_unk=True
        ),
        "spanning": bpe(None, metaspace, byte_level=False, words=False, unk_token="<unk>"),
        "wordpiece": around(wordpiece, "[CLS]", "[SEP]"),
        "unigram": around(unigram, "", "</s>"),
        "overlapping": overlapping(),
        "unknown-pattern": bpe(None, split(r"\w+ \w+|."), byte_level=True),
    }
    for name, tokenizer in made.items():
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)


if __name__ == "__main__":
    main()

//! Where a text can be cut so that the tokens of its parts, one after another, are the tokens of the whole.
//!
//! Two kinds of places are known to be such, each under conditions that are read off the tokenizer itself:
//! - before an added token that nothing else can reach into: a tokenizer takes added tokens out of the text first and treats what is
//!   between them on its own (`AddedVocabulary::extract_and_normalize` of the `tokenizers` crate);
//! - before the single space between two lower-case letters, where the pre-tokenizer always starts a new piece there, or where no token
//!   of a BPE vocabulary reaches over such a place, so that no merge ever does.
//!
//! Where neither is certain, there are no cuts and every text is tokenised whole.

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, Tokenizer};

use crate::json::Json;

/// The cuts of a tokenizer.
#[derive(Debug)]
pub(crate) struct Cuts {
    /// Added tokens that a cut can be made before.
    tokens: Option<AhoCorasick>,
    /// Whether a cut can be made between words.
    words: bool,
}

impl Cuts {
    /// `description` is the `tokenizer.json` that the tokenizer was read from.
    pub(crate) fn new(description: &Json, tokenizer: &Tokenizer) -> Option<Self> {
        if matches!(
            description
                .get("model")
                .and_then(|model| model.get("dropout")),
            Some(Json::Float(_) | Json::Integer(1..))
        ) {
            // Its tokens are drawn by chance.
            return None;
        }
        let added: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
        let separable = separable_tokens(&added);
        let tokens = if separable.is_empty() {
            None
        } else {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&separable)
                .ok()
        };
        let words = words_are_apart(&added)
            && normalizer_keeps_words_apart(description.get("normalizer"))
            && pieces_end_at_words(description);
        (tokens.is_some() || words).then_some(Self { tokens, words })
    }

    /// The first cut at `from` or behind it, inside of the text.
    pub(crate) fn next(&self, text: &str, from: usize) -> Option<usize> {
        let mut from = from.max(1);
        if from >= text.len() {
            return None;
        }
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let word = self
            .words
            .then(|| next_word(text.as_bytes(), from))
            .flatten();
        // Only a token before the next word is of interest.
        let until = word.map_or(text.len(), |at| at + 1);
        let token = self.tokens.as_ref().and_then(|tokens| {
            let mut until = until;
            while !text.is_char_boundary(until) {
                until += 1;
            }
            let found = tokens.find(&text[from..until])?;
            Some(from + found.start())
        });
        match (token, word) {
            (Some(token), Some(word)) => Some(token.min(word)),
            (token, word) => token.or(word),
        }
    }

    /// The last cut of the text; 0 where there is none.
    pub(crate) fn last(&self, text: &str) -> usize {
        let mut last = 0;
        while let Some(next) = self.next(text, last + 1) {
            last = next;
        }
        last
    }
}

fn next_word(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + 1 < bytes.len() {
        at += memchr::memchr(b' ', &bytes[at..bytes.len() - 1])?;
        if bytes[at - 1].is_ascii_lowercase() && bytes[at + 1].is_ascii_lowercase() {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Added tokens before which a text falls apart wherever they occur: matched in the raw text, whatever stands beside them, and with no
/// other added token reaching over their beginning.
fn separable_tokens(added: &[AddedToken]) -> Vec<&str> {
    let raw: Vec<&AddedToken> = added
        .iter()
        .filter(|token| !token.normalized && !token.content.is_empty())
        .collect();
    // Such a token in front of the cut would no longer see that a word goes on behind it.
    let single_words = raw.iter().any(|token| token.single_word);
    let starts_apart = |token: &AddedToken| {
        let first = token.content.as_bytes()[0];
        !single_words || (first.is_ascii_punctuation() && first != b'_')
    };
    let candidates: Vec<&AddedToken> = raw
        .iter()
        .copied()
        .filter(|token| {
            !token.lstrip
                && !token.single_word
                && starts_apart(token)
                && token
                    .content
                    .chars()
                    .all(|character| !character.is_whitespace())
        })
        .collect();
    let mut starts = [false; 256];
    for candidate in &candidates {
        starts[usize::from(candidate.content.as_bytes()[0])] = true;
    }
    // What of an added token could be taken for the beginning of another, or be the whole of it.
    let inner: Vec<&[u8]> = raw
        .iter()
        .flat_map(|token| {
            let bytes = token.content.as_bytes();
            (1..bytes.len()).map(move |at| &bytes[at..])
        })
        .filter(|rest| starts[usize::from(rest[0])])
        .collect();
    let shifted: Vec<&[u8]> = raw
        .iter()
        .filter(|token| token.lstrip || token.single_word)
        .map(|token| token.content.as_bytes())
        .collect();
    candidates
        .into_iter()
        .map(|token| token.content.as_str())
        .filter(|token| {
            let token = token.as_bytes();
            inner
                .iter()
                .all(|rest| !rest.starts_with(token) && !token.starts_with(rest))
                && shifted.iter().all(|other| !other.starts_with(token))
        })
        .collect()
}

fn is_space(character: char) -> bool {
    character == ' ' || character == '▁'
}

/// Whether no added token can begin, end or lie across the place between two words.
fn words_are_apart(added: &[AddedToken]) -> bool {
    added.iter().all(|token| {
        let flagged = token.lstrip || token.rstrip || token.single_word;
        let characters: Vec<char> = token.content.chars().collect();
        let across = characters.windows(2).any(|pair| {
            (pair[0].is_ascii_alphabetic() && is_space(pair[1]))
                || (is_space(pair[0]) && pair[1].is_ascii_alphabetic())
        });
        let edge = |character: Option<&char>| {
            character.is_some_and(|character| {
                character.is_ascii_alphabetic() || (flagged && is_space(*character))
            })
        };
        !across && !edge(characters.first()) && !edge(characters.last())
    })
}

fn kind(part: &Json) -> &str {
    part.get("type").and_then(Json::as_text).unwrap_or_default()
}

fn parts<'a>(part: &'a Json, key: &str) -> &'a [Json] {
    part.get(key).and_then(Json::as_list).unwrap_or_default()
}

/// Whether a normalizer changes what is beside the space between two words only within the words and independently of one another.
fn normalizer_keeps_words_apart(normalizer: Option<&Json>) -> bool {
    let Some(normalizer) = normalizer else {
        return true;
    };
    match kind(normalizer) {
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "BertNormalizer" => true,
        "Replace" => replaces_space(normalizer),
        "Sequence" => parts(normalizer, "normalizers")
            .iter()
            .all(|part| normalizer_keeps_words_apart(Some(part))),
        _ => false,
    }
}

/// `SentencePiece`'s spelling of spaces.
fn replaces_space(normalizer: &Json) -> bool {
    let pattern = normalizer
        .get("pattern")
        .and_then(|pattern| pattern.get("String"))
        .and_then(Json::as_text);
    let content = normalizer.get("content").and_then(Json::as_text);
    kind(normalizer) == "Replace" && pattern == Some(" ") && content == Some("▁")
}

fn no_space_is_left(normalizer: Option<&Json>) -> bool {
    normalizer.is_some_and(|normalizer| {
        replaces_space(normalizer)
            || parts(normalizer, "normalizers")
                .iter()
                .any(|part| no_space_is_left(Some(part)))
    })
}

/// What a pre-tokenizer does at the space between two words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtWords {
    /// A new piece starts there, whatever stands around.
    Splits,
    /// It leaves the place alone.
    Leaves,
    /// Not known.
    Unknown,
}

fn pieces_end_at_words(description: &Json) -> bool {
    let spaceless = no_space_is_left(description.get("normalizer"));
    match at_words(description.get("pre_tokenizer"), spaceless) {
        AtWords::Splits => true,
        AtWords::Leaves => description.get("model").is_some_and(no_token_spans_words),
        AtWords::Unknown => false,
    }
}

fn at_words(pre_tokenizer: Option<&Json>, spaceless: bool) -> AtWords {
    let Some(part) = pre_tokenizer else {
        return AtWords::Leaves;
    };
    let flag = |key: &str| part.get(key).and_then(Json::as_bool).unwrap_or(true);
    match kind(part) {
        "ByteLevel" if spaceless => AtWords::Unknown,
        "ByteLevel" if flag("use_regex") => AtWords::Splits,
        "Metaspace" if flag("split") => AtWords::Splits,
        "ByteLevel" | "Metaspace" | "Digits" | "Punctuation" => AtWords::Leaves,
        "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" if !spaceless => AtWords::Splits,
        "Split" => at_split(part, spaceless),
        "Sequence" => {
            let mut found = AtWords::Leaves;
            for inner in parts(part, "pretokenizers") {
                match at_words(Some(inner), spaceless) {
                    AtWords::Unknown => return AtWords::Unknown,
                    AtWords::Splits => found = AtWords::Splits,
                    AtWords::Leaves => {}
                }
            }
            found
        }
        _ => AtWords::Unknown,
    }
}

/// Patterns whose every alternative that takes a letter takes at most one character that is not a letter before it, so that the piece of
/// a word ends with the word and the next one starts with the space.
const WORD_PATTERNS: [&str; 7] = [
    // GPT-2
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    // GPT-4, Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2 to 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 3.5
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-4o, gpt-oss, Llama 4
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Mistral's Tekken
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // DeepSeek V3
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
];

/// Patterns that take neither letters of ASCII nor spaces.
const OTHER_PATTERNS: [&str; 4] = [r"\p{N}{1,3}", r"\p{N}", r"\d", r"[一-龥぀-ゟ゠-ヿ]+"];

fn at_split(part: &Json, spaceless: bool) -> AtWords {
    let pattern = |key: &str| {
        part.get("pattern")
            .and_then(|pattern| pattern.get(key))
            .and_then(Json::as_text)
    };
    let behavior = part
        .get("behavior")
        .and_then(Json::as_text)
        .unwrap_or_default();
    let invert = part.get("invert").and_then(Json::as_bool).unwrap_or(false);
    if let Some(text) = pattern("String") {
        // Gemma splits at spaces, of which its normalizer has left none.
        let absent = spaceless && text == " ";
        return if absent && !invert {
            AtWords::Leaves
        } else {
            AtWords::Unknown
        };
    }
    let isolates = matches!((behavior, invert), ("Isolated", false) | ("Removed", true));
    match pattern("Regex") {
        Some(regex) if isolates && !spaceless && WORD_PATTERNS.contains(&regex) => AtWords::Splits,
        Some(regex) if behavior == "Isolated" && !invert && OTHER_PATTERNS.contains(&regex) => {
            AtWords::Leaves
        }
        _ => AtWords::Unknown,
    }
}

/// Whether no token of a BPE vocabulary has a letter before a space in it: then no merge reaches from a word over the space behind it,
/// and both sides merge as they would alone.
fn no_token_spans_words(model: &Json) -> bool {
    let affix = |key: &str| {
        model
            .get(key)
            .and_then(Json::as_text)
            .is_some_and(|text| !text.is_empty())
    };
    if kind(model) != "BPE" || affix("continuing_subword_prefix") || affix("end_of_word_suffix") {
        return false;
    }
    let Some(vocabulary) = model.get("vocab").and_then(Json::as_object) else {
        return false;
    };
    let known =
        |character: char| vocabulary.contains_key(character.encode_utf8(&mut [0; 4]) as &str);
    // A character without a token of its own could be fused with its neighbours.
    ('a'..='z').all(known)
        && [' ', '▁', 'Ġ'].into_iter().any(known)
        && vocabulary.keys().all(|token| {
            token
                .as_bytes()
                .windows(2)
                .all(|pair| !pair[0].is_ascii_lowercase() || pair[1] != b' ')
                && !["▁", "Ġ"].iter().any(|space| {
                    token
                        .match_indices(space)
                        .any(|(at, _)| at > 0 && token.as_bytes()[at - 1].is_ascii_lowercase())
                })
        })
}

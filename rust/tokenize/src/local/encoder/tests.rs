//! Cutting and the cache change nothing: on tokenizers of every kind that `tests/data/make_tokenizers.py` makes.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::*;
use crate::local::files;

/// Name of each tokenizer, and whether it is known to be cut before special tokens, and between words.
const TOKENIZERS: [(&str, bool, bool); 14] = [
    ("tokenizers/gpt2.json", true, true),
    ("tokenizers/llama3.json", true, true),
    ("tokenizers/qwen.json", true, true),
    ("tokenizers/gpt4o.json", true, true),
    ("tokenizers/deepseek.json", true, true),
    ("tokenizers/llama2-legacy.json", true, false),
    ("tokenizers/mistral.json", true, true),
    ("tokenizers/gemma.json", true, true),
    ("tokenizers/spanning.json", true, false),
    ("tokenizers/wordpiece.json", true, true),
    ("tokenizers/unigram.json", true, true),
    ("tokenizers/overlapping.json", true, false),
    ("tokenizers/unknown-pattern.json", true, false),
    ("vllm-0.32/tokenizer.json", true, true),
];

fn open(name: &str, cache_bytes: usize) -> Encoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    let files = files::read(&path, None).unwrap_or_else(|error| panic!("{error}"));
    let mut encoder = Encoder::new(files.tokenizer, &files.description, cache_bytes);
    encoder.chunk_bytes = 7;
    encoder
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec![
            "the", "quick", "fox", "jumps", "dog", "DOG", "it's", "they'RE", "I", "12345", "7", "def", "ärger", "café", "e\u{301}", "你好", "世界", "😀", "o", "x",
        ]).prop_map(str::to_owned),
        6 => select(vec![" ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "\u{a0}", "▁", ""]).prop_map(str::to_owned),
        3 => select(vec![
            "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<s", "s>", "|im_end|>", "<|", "[CLS]", "<a>", "<a><b>", "a>>", "x<s>", "[[[", "]]]", "<l>", " <l>", "<r> ", "<w>", "<s><l>", "fox jumps", "\u{301}",
        ]).prop_map(str::to_owned),
        2 => select(vec![".", ",", "?!", "(", "'", "\"", "--", "/", "{}"]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..60).prop_map(|fragments| fragments.concat())
}

/// Cases for each tokenizer: `PROPTEST_CASES` of them where it is set.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(100, |count| {
        count.parse().expect("PROPTEST_CASES is a number")
    })
}

fn check(
    name: &str,
    strategy: impl Strategy<Value = String>,
    property: impl Fn(&str) -> Result<(), TestCaseError>,
) {
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases())
    });
    runner
        .run(&strategy, |text| property(&text))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn the_tokens_of_both_sides_of_a_cut_are_the_tokens_of_the_whole() {
    for (name, tokens, words) in TOKENIZERS {
        let encoder = open(name, 0);
        let cuts = encoder
            .cuts
            .as_ref()
            .unwrap_or_else(|| panic!("{name} has cuts"));
        assert_eq!(
            cuts.next("….<|im_end|>", 1).is_some() || cuts.next("….</s>", 1).is_some(),
            tokens,
            "{name}"
        );
        assert_eq!(cuts.next("one two", 1).is_some(), words, "{name}");
        check(name, text(), |text| {
            let whole = encoder.encode_whole(text, false)?;
            let mut from = 1;
            while let Some(at) = cuts.next(text, from) {
                prop_assert!(at >= from && at < text.len());
                let mut parts = encoder.encode_whole(&text[..at], false)?;
                parts.extend(encoder.encode_whole(&text[at..], false)?);
                prop_assert_eq!(&parts, &whole, "cut at {} of {:?}", at, text);
                from = at + 1;
            }
            prop_assert_eq!(cuts.last(text), if from == 1 { 0 } else { from - 1 });
            Ok(())
        });
    }
}

#[test]
fn a_cache_that_is_too_small_or_large_enough_changes_no_token() {
    for (name, _, _) in TOKENIZERS {
        for cache_bytes in [300, 1 << 20] {
            let encoder = open(name, cache_bytes);
            let cache = encoder
                .cache
                .as_ref()
                .unwrap_or_else(|| panic!("{name} has a cache"));
            check(name, text(), |text| {
                let reference = |text: &str, specials| encoder.encode_whole(text, specials);
                // A conversation that grows, asked for twice at each turn.
                let turns: Vec<usize> = (0..=4)
                    .filter_map(|turn| {
                        (text.len() * turn / 4..=text.len()).find(|at| text.is_char_boundary(*at))
                    })
                    .collect();
                for end in turns.iter().flat_map(|end| [end, end]) {
                    let text = &text[..*end];
                    prop_assert_eq!(
                        encoder.encode(text, Specials::None, |_, _| {})?,
                        reference(text, false)?
                    );
                    prop_assert_eq!(
                        encoder.encode(text, Specials::Both, |_, _| {})?,
                        reference(text, true)?
                    );
                    prop_assert!(cache.bytes() <= cache_bytes);
                }
                Ok(())
            });
        }
    }
}

#[test]
fn a_conversation_goes_on_from_what_is_cached() {
    let mut encoder = open("tokenizers/qwen.json", 1 << 20);
    encoder.chunk_bytes = CHUNK_BYTES;
    let turn = "<|im_start|>user\nthe quick brown fox jumps over the lazy dog 123 times, isn't it?<|im_end|>\n".repeat(30);
    encoder
        .encode(&turn, Specials::None, |_, _| {})
        .expect("it is text");
    let cache = encoder.cache.as_ref().expect("it has a cache");
    let before = cache.bytes();
    encoder
        .encode(&turn, Specials::None, |_, _| {})
        .expect("it is text");
    assert_eq!(cache.bytes(), before, "nothing is new");
    encoder
        .encode(
            &format!("{turn}<|im_start|>assistant\n"),
            Specials::None,
            |_, _| {},
        )
        .expect("it is text");
    let grown = cache.bytes() - before;
    assert!(
        grown > 0 && grown < before / 2,
        "{grown} of {before} bytes are new"
    );
}

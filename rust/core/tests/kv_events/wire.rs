//! Messages as publishers write them, and what the index answers.

use std::sync::Arc;

use warmroute_core::kv_events::{Engine, KvEvents, PublisherId, Received};
use warmroute_core::prefix::exact::{ExactIndex, MAX_TIERS, Matches};
use warmroute_core::tokens::TokenSequence;

/// A `MessagePack` value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nil,
    Number(i128),
    Time(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn number(number: impl Into<i128>) -> Value {
    Value::Number(number.into())
}

pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::List(values.into_iter().collect())
}

pub(crate) fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Map(
        fields
            .into_iter()
            .map(|(name, value)| (text(name), value))
            .collect(),
    )
}

pub(crate) fn hashes(hashes: &[u64]) -> Value {
    list(hashes.iter().map(|hash| number(*hash)))
}

pub(crate) fn tokens(tokens: &[u32]) -> Value {
    list(tokens.iter().map(|token| number(*token)))
}

pub(crate) fn batch(events: Vec<Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    list([Value::Time(1.5), Value::List(events), number(0)]).write(&mut bytes);
    bytes
}

/// `BlockStored` as older vLLM and `SGLang` write it: further fields follow.
pub(crate) fn stored_array(
    own: &[u64],
    parent: Option<u64>,
    ids: &[u32],
    size: u32,
    rest: Vec<Value>,
) -> Value {
    let parent = parent.map_or(Value::Nil, number);
    let mut fields = vec![
        text("BlockStored"),
        hashes(own),
        parent,
        tokens(ids),
        number(size),
    ];
    fields.extend(rest);
    Value::List(fields)
}

/// `BlockStored` as newer vLLM writes it, with these fields beside the required ones.
pub(crate) fn stored_map(
    own: &[u64],
    parent: Option<u64>,
    ids: &[u32],
    size: u32,
    rest: Vec<(&str, Value)>,
) -> Value {
    let fields = [
        ("type", text("BlockStored")),
        ("block_hashes", hashes(own)),
        ("parent_block_hash", parent.map_or(Value::Nil, number)),
        ("token_ids", tokens(ids)),
        ("block_size", number(size)),
    ];
    map(fields.into_iter().chain(rest))
}

pub(crate) fn removed(own: &[u64], rest: Vec<(&str, Value)>) -> Value {
    let fields = [
        ("type", text("BlockRemoved")),
        ("block_hashes", hashes(own)),
    ];
    map(fields.into_iter().chain(rest))
}

pub(crate) fn cleared() -> Value {
    map([("type", text("AllBlocksCleared"))])
}

impl Value {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Number(value @ 0..=127) => out.push(*value as u8),
            Self::Number(value @ 128..=0xffff) => {
                out.push(0xcd);
                out.extend((*value as u16).to_be_bytes());
            }
            Self::Number(value @ 0x1_0000..=0xffff_ffff) => {
                out.push(0xce);
                out.extend((*value as u32).to_be_bytes());
            }
            Self::Number(value) if *value < 0 => {
                out.push(0xd3);
                out.extend((*value as i64).to_be_bytes());
            }
            Self::Number(value) => {
                out.push(0xcf);
                out.extend((*value as u64).to_be_bytes());
            }
            Self::Time(value) => {
                out.push(0xcb);
                out.extend(value.to_be_bytes());
            }
            Self::Text(value) => {
                out.push(0xda);
                out.extend((value.len() as u16).to_be_bytes());
                out.extend(value.as_bytes());
            }
            Self::Bytes(value) => {
                out.push(0xc5);
                out.extend((value.len() as u16).to_be_bytes());
                out.extend(value);
            }
            Self::List(values) => {
                out.push(0xdd);
                out.extend((values.len() as u32).to_be_bytes());
                for value in values {
                    value.write(out);
                }
            }
            Self::Map(fields) => {
                out.push(0xde);
                out.extend((fields.len() as u16).to_be_bytes());
                for (name, value) in fields {
                    name.write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// Events on their way into an index of their own.
pub(crate) struct Picker {
    pub(crate) events: KvEvents,
}

impl Picker {
    pub(crate) fn new() -> Self {
        Self {
            events: KvEvents::new(Arc::new(ExactIndex::new(1 << 30))),
        }
    }

    pub(crate) fn open(&self, slot: u32, rank: u32, form: Engine) -> Publisher<'_> {
        Publisher::open(&self.events, slot, rank, form)
    }

    /// Leading blocks that the endpoint holds, over all its engines and block sizes; and the sum of their weights.
    pub(crate) fn held(
        &self,
        slot: u32,
        model: &str,
        salt: Option<&str>,
        sequence: &TokenSequence,
    ) -> (u32, f32) {
        let weights = self
            .events
            .weights(|medium| if medium == "gpu" { 1.0 } else { 0.5 });
        assert_eq!(weights.len(), MAX_TIERS);
        let mut matches = Matches::default();
        let mut best = (0, 0.0_f32);
        for keys in self
            .events
            .keys(model, salt, std::slice::from_ref(sequence))
        {
            let [contents] = &keys.sequences[..] else {
                panic!("contents of one sequence")
            };
            self.events
                .index()
                .matches(keys.root, contents, &weights, &mut matches);
            for holder in keys.owners.iter().filter(|holder| holder.slot == slot) {
                best.0 = best.0.max(matches.blocks(holder.owner));
                best.1 = best.1.max(matches.weighted(holder.owner));
            }
        }
        best
    }

    pub(crate) fn blocks(&self, slot: u32, ids: &[u32]) -> u32 {
        self.held(slot, "tiny", None, &prompt(ids)).0
    }

    /// A counter of the metrics page, by the end of its name and its labels.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> u64 {
        use warmroute_core::stats::{FamilySource as _, SampleValue};
        let pool = warmroute_core::pool::Pool::new();
        let families = self.events.families(&pool.snapshot());
        let family = families
            .iter()
            .find(|family| family.name == name)
            .expect("a family of that name");
        let sample = family.samples.iter().find(|sample| {
            sample
                .labels
                .iter()
                .map(|label| &**label)
                .eq(labels.iter().copied())
        });
        match sample.map(|sample| &sample.value) {
            Some(SampleValue::Number(value)) => *value as u64,
            None => 0,
            Some(SampleValue::Histogram { .. }) => panic!("no histogram"),
        }
    }
}

/// One publisher as its process sees it.
pub(crate) struct Publisher<'a> {
    events: &'a KvEvents,
    pub(crate) id: PublisherId,
    pub(crate) topic: String,
    pub(crate) sequence: u64,
}

impl<'a> Publisher<'a> {
    /// Of the endpoint in `slot`, in whatever the events go into.
    pub(crate) fn open(events: &'a KvEvents, slot: u32, rank: u32, form: Engine) -> Self {
        let pod = format!("10.0.0.{slot}:8000");
        Self {
            id: events.open(slot, &pod, rank, form),
            events,
            topic: format!("kv@{pod}@tiny"),
            sequence: 0,
        }
    }

    pub(crate) fn send(&mut self, events: Vec<Value>) -> Received {
        self.send_bytes(&batch(events))
    }

    pub(crate) fn send_bytes(&mut self, payload: &[u8]) -> Received {
        self.sequence += 1;
        self.deliver(self.sequence - 1, payload)
    }

    pub(crate) fn deliver(&self, sequence: u64, payload: &[u8]) -> Received {
        self.events.receive(
            self.id,
            self.topic.as_bytes(),
            &sequence.to_be_bytes(),
            payload,
        )
    }
}

pub(crate) fn prompt(ids: &[u32]) -> TokenSequence {
    TokenSequence {
        tokens: ids.to_vec(),
        ..TokenSequence::default()
    }
}

/// Tokens from one number up.
pub(crate) fn count(from: u32, length: u32) -> Vec<u32> {
    (from..from + length).collect()
}

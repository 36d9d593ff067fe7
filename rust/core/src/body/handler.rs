//! What the JSON tokenizer tells, and to whom.

use super::nesting::Container;

/// `null`, `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
}

/// Takes what the tokenizer finds, in document order.
pub(super) trait Handler {
    /// A key begins; true when its text is wanted.
    fn begin_key(&mut self) -> bool;
    /// The key ended.
    fn end_key(&mut self);
    /// A string value begins, its quote at byte `at` of the document; true when its text is wanted.
    fn begin_string(&mut self, at: usize) -> bool;
    /// The string ended; `end` is the byte after its closing quote.
    fn end_string(&mut self, end: usize);
    /// More text of the wanted key or string value, unescaped; never empty.
    fn text(&mut self, run: &[u8], of_key: bool);
    /// A number: the first 64 bytes of its text, and its value when that is known already (it is a short plain integer).
    fn number(&mut self, text: &[u8], value: Option<u64>);
    /// A literal.
    fn literal(&mut self, literal: Literal);
    /// A container opens. Not called for the document's own object.
    fn open(&mut self, container: Container);
    /// A container closes. Not called for the document's own object.
    fn close(&mut self);
}

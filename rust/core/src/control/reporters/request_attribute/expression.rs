//! CEL over the tokens of a request: compiled once, within bounds that keep its evaluation short and shallow.

use std::collections::HashMap;
use std::thread;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, ExecutionError, ParseErrors, Program, Value};

use crate::body::Usage;

/// Longest expression in bytes.
const LONGEST: usize = 1024;

/// Opening brackets of an expression, wherever they stand. The parser descends once for each, by up to 160 KB without optimisation.
const MOST_BRACKETS: usize = 64;

/// Stack of the thread that compiles: enough for anything within the two bounds above. Only what is touched takes memory.
const COMPILER_STACK: usize = 64 << 20;

/// Deepest nesting of a compiled expression. Evaluation descends once for each level, by up to 40 KB without optimisation, on the stack of
/// whoever serves the request: 2 MB in the native host.
const DEEPEST: usize = 32;

/// Macros that go through a list. Two of them could multiply, and one after the other double a list each time.
const MOST_LOOPS: usize = 1;

/// The variable that expressions see.
const VARIABLE: &str = "usage";

/// An expression that can be evaluated on the stack of any thread.
#[derive(Debug)]
pub(super) struct Expression(Program);

impl Expression {
    /// Compiles, and tries on made-up usage: names that do not exist show only when an expression runs.
    ///
    /// # Errors
    /// What is wrong, to follow the name of the field.
    pub(super) fn compile(source: &str, functions: &Context<'_, '_>) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!(
                "has {} bytes; at most {LONGEST} are compiled",
                source.len()
            ));
        }
        let brackets = source.matches(['(', '[', '{']).count();
        if brackets > MOST_BRACKETS {
            return Err(format!(
                "has {brackets} opening brackets; at most {MOST_BRACKETS} are compiled"
            ));
        }
        let expression = Self(on_large_stack(|| parse(source))?);
        let sample = Usage {
            input_tokens: 2,
            output_tokens: 1,
            cached_tokens: Some(1),
        };
        if let Err(ExecutionError::UndeclaredReference(name)) =
            expression.evaluate(functions, &sample)
        {
            return Err(format!(
                "is no valid CEL: there is no `{name}`; what can be used are the functions of CEL and the variable `{VARIABLE}`"
            ));
        }
        Ok(expression)
    }

    /// Its value for what a request used. `functions`: those of the language.
    pub(super) fn evaluate(
        &self,
        functions: &Context<'_, '_>,
        usage: &Usage,
    ) -> Result<Value, ExecutionError> {
        // The reference hands usage over as protobuf, where every number is a double.
        let number = |tokens: u64| Value::Float(tokens as f64);
        let mut fields = HashMap::from([
            ("prompt_tokens", number(usage.input_tokens)),
            ("completion_tokens", number(usage.output_tokens)),
            (
                "total_tokens",
                number(usage.input_tokens.saturating_add(usage.output_tokens)),
            ),
        ]);
        if let Some(cached) = usage.cached_tokens {
            let details = HashMap::from([("cached_tokens", number(cached))]);
            fields.insert("prompt_tokens_details", details.into());
        }
        let mut scope = functions.new_inner_scope();
        scope.add_variable_from_value(VARIABLE, fields);
        self.0.execute(&scope)
    }
}

/// Runs the compiler, which descends into an expression as deep as it is nested: a stack that overflows ends the process.
fn on_large_stack(
    compile: impl FnOnce() -> Result<Program, String> + Send,
) -> Result<Program, String> {
    thread::scope(|scope| {
        let compiler = thread::Builder::new()
            .name("cel-compiler".to_owned())
            .stack_size(COMPILER_STACK)
            .spawn_scoped(scope, compile)
            .map_err(|error| format!("cannot be compiled now: no thread to do so: {error}"))?;
        compiler
            .join()
            .unwrap_or_else(|_| Err("cannot be compiled".to_owned()))
    })
}

fn parse(source: &str) -> Result<Program, String> {
    let program = Program::compile(source).map_err(|errors| told(&errors))?;
    let size = Size::of(program.expression());
    if size.depth > DEEPEST {
        return Err(format!(
            "is nested {} deep, where each operator of a chain counts; at most {DEEPEST} are evaluated",
            size.depth
        ));
    }
    if size.loops > MOST_LOOPS {
        return Err(format!(
            "goes through lists {} times (all, exists, exists_one, map, filter); at most {MOST_LOOPS} time",
            size.loops
        ));
    }
    Ok(program)
}

/// How much there is to an expression.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Longest way from the expression to one that has no parts.
    depth: usize,
    /// Macros that go through a list.
    loops: usize,
}

impl Size {
    fn of(expression: &IdedExpr) -> Self {
        match &expression.expr {
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Self::default(),
            Expr::Call(call) => Self::around(call.target.as_deref().into_iter().chain(&call.args)),
            Expr::List(list) => Self::around(&list.elements),
            Expr::Map(map) => Self::of_entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Select(select) => Self::around([&*select.operand]),
            Expr::Struct(made) => Self::of_entries(made.entries.iter().map(|entry| &entry.expr)),
            Expr::Comprehension(parts) => {
                let mut size = Self::around([
                    &parts.iter_range,
                    &parts.accu_init,
                    &parts.loop_cond,
                    &parts.loop_step,
                    &parts.result,
                ]);
                size.loops += 1;
                size
            }
        }
    }

    fn around<'a>(parts: impl IntoIterator<Item = &'a IdedExpr>) -> Self {
        let parts = parts.into_iter().map(Self::of);
        let sum = parts.fold(Self::default(), |sum, part| Self {
            depth: sum.depth.max(part.depth),
            loops: sum.loops + part.loops,
        });
        Self {
            depth: sum.depth + 1,
            ..sum
        }
    }

    fn of_entries<'a>(entries: impl Iterator<Item = &'a EntryExpr>) -> Self {
        Self::around(entries.flat_map(|entry| {
            match entry {
                EntryExpr::StructField(field) => [Some(&field.value), None],
                EntryExpr::MapEntry(entry) => [Some(&entry.key), Some(&entry.value)],
            }
            .into_iter()
            .flatten()
        }))
    }
}

/// All that is wrong with an expression, in one line.
fn told(errors: &ParseErrors) -> String {
    let places: Vec<String> = errors
        .errors
        .iter()
        .map(|error| {
            let (line, column) = error.pos;
            format!("{line}:{column}: {}", error.msg)
        })
        .collect();
    format!("is no valid CEL: {}", places.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(source: &str) -> Result<Expression, String> {
        Expression::compile(source, &Context::default())
    }

    /// Around and after, so often.
    fn nested(before: &str, after: &str, times: usize) -> String {
        before.repeat(times) + "1" + &after.repeat(times)
    }

    #[test]
    fn no_expression_is_too_much_for_the_stack_of_a_thread_that_compiles_or_evaluates() {
        let shapes = [
            ("(", ")"),
            ("(", ""),
            ("[", "]"),
            ("{1:", "}"),
            ("int(", ")"),
            ("f(", ")"),
            ("(')'+(", "))"),
            ("1+", ""),
            ("-", ""),
            ("- ", ""),
            ("!", ""),
            ("true?1:", ""),
            ("true&&", ""),
            ("", "[0]"),
            ("", ".a"),
            ("", ".a()"),
            ("[1].map(x,", ")"),
        ];
        let usage = Usage {
            input_tokens: 1,
            output_tokens: 1,
            cached_tokens: None,
        };
        for (before, after) in shapes {
            for times in [1, 8, 16, 24, 31, 60, 120, 1000] {
                let source = nested(before, after, times);
                let evaluate = || {
                    let functions = Context::default();
                    let expression = Expression::compile(&source, &functions)?;
                    expression
                        .evaluate(&functions, &usage)
                        .map_err(|error| error.to_string())
                };
                let outcome = thread::scope(|scope| {
                    thread::Builder::new()
                        .stack_size(2 << 20)
                        .spawn_scoped(scope, evaluate)
                        .expect("a thread")
                        .join()
                });
                // An overflow would end the whole test.
                assert!(outcome.is_ok(), "{before} {after} {times}");
            }
        }
    }

    #[test]
    fn what_is_too_long_too_deep_or_too_slow_is_refused() {
        for (source, told) in [
            (
                "1+".repeat(LONGEST / 2) + "1",
                "has 1025 bytes; at most 1024 are compiled",
            ),
            (
                nested("(", ")", 65),
                "has 65 opening brackets; at most 64 are compiled",
            ),
            (
                nested("1+", "", 33),
                "is nested 33 deep, where each operator of a chain counts; at most 32 are evaluated",
            ),
            (
                nested("[1,2].map(x,", ")", 2),
                "goes through lists 2 times (all, exists, exists_one, map, filter); at most 1 time",
            ),
            (
                "size([[1]].map(x, x + x).map(x, x + x))".to_owned(),
                "goes through lists 2 times (all, exists, exists_one, map, filter); at most 1 time",
            ),
        ] {
            assert_eq!(compiled(&source).err().as_deref(), Some(told), "{source}");
        }
        for source in [
            nested("1+", "", 32),
            nested("(", ")", 30),
            "[1, 2].exists(x, x == 2) ? 1 : 2".to_owned(),
        ] {
            assert!(compiled(&source).is_ok(), "{source}");
        }
    }
}

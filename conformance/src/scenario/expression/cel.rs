//! CEL: compiling, evaluating, and values to and from JSON.

use std::collections::{BTreeSet, HashMap};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::{Number, Value};

use super::Bindings;

/// An expression that is ready to be evaluated.
#[derive(Debug)]
pub struct Compiled {
    program: Program,
    variables: BTreeSet<String>,
    functions: BTreeSet<String>,
    source: String,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SyntaxError {
    /// The byte in the expression where reading it failed.
    pub(crate) offset: usize,
    pub(crate) message: String,
}

thread_local! {
    // Building the table of functions costs far more than one evaluation.
    static ROOT: Context<'static> = Context::default().with_all();
}

impl Compiled {
    /// Compiles `source`, the text between `${` and `}`.
    pub(crate) fn new(source: &str) -> Result<Self, SyntaxError> {
        let program = Program::compile(source).map_err(|errors| match errors.errors.first() {
            Some(error) => SyntaxError { offset: offset_of(source, error.pos), message: readable(&error.msg) },
            None => SyntaxError { offset: 0, message: "no expression".to_owned() },
        })?;
        let mut names = Names::default();
        names.collect(program.expression());
        Ok(Self { program, variables: names.variables, functions: names.functions, source: source.to_owned() })
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The bindings that it refers to.
    pub(crate) fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The functions that it calls and that do not exist.
    pub(crate) fn unknown_functions(&self) -> Vec<&str> {
        let exists = |name: &&str| !function_exists(name);
        self.functions.iter().map(String::as_str).filter(exists).collect()
    }

    /// Evaluates it. `this` is what `self` stands for, if anything.
    pub(crate) fn evaluate(&self, bindings: &Bindings, this: Option<&Value>) -> Result<Value, String> {
        ROOT.with(|root| {
            let mut context = root.new_inner_scope();
            for name in &self.variables {
                let value = if name == super::SELF { this } else { bindings.get(name) };
                if let Some(value) = value {
                    context.add_variable_from_value(name.as_str(), to_cel(value));
                }
            }
            let value = self.program.execute(&context).map_err(|error| explain(&error))?;
            to_json(&value)
        })
    }
}

/// The parser's message without its list of everything that could have stood there.
fn readable(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default().trim();
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting {").next().unwrap_or_default();
    message.replace("'<EOF>'", "the end of the expression")
}

/// Whether there is a function of that name; a qualified one (`base64.decode`) has its own.
fn function_exists(name: &str) -> bool {
    let Ok(call) = Program::compile(&format!("{name}()")) else {
        return true; // A macro: it wants arguments, so it is known.
    };
    ROOT.with(|root| !matches!(call.execute(root), Err(ExecutionError::UndeclaredReference(_))))
}

fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}` here; test it with `has(…)` first"),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` is not known here"),
        ExecutionError::NoSuchOverload => {
            "an operator or function was given values of types that it cannot take".to_owned()
        }
        other => other.to_string(),
    }
}

/// CEL counts lines from 1 and columns, in characters, from 0 or 1; an offset in bytes is what the reader's text has.
fn offset_of(source: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line - 1).unwrap_or(0);
    let column = usize::try_from(column - 1).unwrap_or(0);
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &source[start.min(source.len())..];
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

/// The names in an expression.
#[derive(Default)]
struct Names {
    variables: BTreeSet<String>,
    functions: BTreeSet<String>,
    /// The variables of the macros around.
    bound: Vec<String>,
}

impl Names {
    fn collect(&mut self, expression: &IdedExpr) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                // `@result` and the like belong to macros.
                if !name.starts_with('@') && !self.bound.contains(name) {
                    self.variables.insert(name.clone());
                }
            }
            Expr::Call(call) => self.collect_call(call),
            Expr::Select(select) => self.collect(&select.operand),
            Expr::List(list) => self.collect_all(&list.elements),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.collect_entry(&entry.expr)),
            Expr::Struct(message) => message.entries.iter().for_each(|entry| self.collect_entry(&entry.expr)),
            Expr::Comprehension(comprehension) => {
                self.collect(&comprehension.iter_range);
                self.collect(&comprehension.accu_init);
                let outer = self.bound.len();
                self.bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
                self.bound.extend(comprehension.iter_var2.clone());
                self.collect(&comprehension.loop_cond);
                self.collect(&comprehension.loop_step);
                self.collect(&comprehension.result);
                self.bound.truncate(outer);
            }
        }
    }

    fn collect_call(&mut self, call: &CallExpr) {
        // Operators are calls as well, of names such as `_+_`.
        let named = call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
        match call.target.as_deref() {
            // Not a method of a binding, but a function with a dot in its name.
            Some(IdedExpr { expr: Expr::Ident(prefix), .. })
                if function_exists(&format!("{prefix}.{}", call.func_name)) => {}
            target => {
                if let Some(target) = target {
                    self.collect(target);
                }
                if named {
                    self.functions.insert(call.func_name.clone());
                }
            }
        }
        self.collect_all(&call.args);
    }

    fn collect_all(&mut self, expressions: &[IdedExpr]) {
        for expression in expressions {
            self.collect(expression);
        }
    }

    fn collect_entry(&mut self, entry: &EntryExpr) {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.collect(&entry.key);
                self.collect(&entry.value);
            }
            EntryExpr::StructField(field) => self.collect(&field.value),
        }
    }
}

/// The crate's own conversion makes every positive number an unsigned one, which then equals no literal.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Cel::Int(signed),
            (None, Some(unsigned)) => Cel::UInt(unsigned),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(text.clone().into()),
        Value::Array(list) => Cel::List(list.iter().map(to_cel).collect::<Vec<_>>().into()),
        Value::Object(object) => {
            let map: HashMap<Key, Cel> =
                object.iter().map(|(key, value)| (Key::String(key.clone().into()), to_cel(value))).collect();
            Cel::Map(Map { map: map.into() })
        }
    }
}

fn to_json(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(value) => Value::Bool(*value),
        Cel::Int(value) => (*value).into(),
        Cel::UInt(value) => (*value).into(),
        Cel::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Cel::String(text) => Value::String(text.to_string()),
        Cel::List(list) => list.iter().map(to_json).collect::<Result<Vec<_>, _>>()?.into(),
        Cel::Map(map) => {
            // Its own order differs from run to run; reports must not.
            let mut entries: Vec<(String, &Cel)> =
                map.map.iter().map(|(key, value)| (key.to_string(), value)).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let object = entries.into_iter().map(|(key, value)| Ok((key, to_json(value)?)));
            Value::Object(object.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("it gives a {}, which is no JSON: convert it with string(…)", other.type_of())),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn evaluate(source: &str, this: &Value) -> Result<Value, String> {
        let bindings = Bindings::from_iter([("n", json!(3)), ("o", json!({"a": [1, 2], "s": "x"}))]);
        Compiled::new(source).map_err(|error| error.to_string())?.evaluate(&bindings, Some(this))
    }

    #[rstest]
    #[case("n == 3", json!(true))]
    #[case("n + 1", json!(4))]
    #[case("o.a.exists(e, e == n - 1)", json!(true))]
    #[case("o", json!({"a": [1, 2], "s": "x"}))]
    #[case("has(o.b) ? o.b : 'none'", json!("none"))]
    #[case("self.endsWith('.svc')", json!(true))]
    #[case("self.matches('^a\\\\.')", json!(true))]
    #[case("size(o.a)", json!(2))]
    #[case("quantity('1Gi').compareTo(quantity('1024Mi')) == 0", json!(true))]
    #[case("self.split('.')[0]", json!("a"))]
    #[case("string(base64.decode('cGc='))", json!("pg"))]
    fn evaluates(#[case] source: &str, #[case] expected: Value) {
        assert_eq!(evaluate(source, &json!("a.svc")), Ok(expected));
    }

    #[test]
    fn a_missing_key_says_how_to_test_for_it() {
        let error = evaluate("o.missing", &Value::Null).unwrap_err();
        assert_eq!(error, "there is no `missing` here; test it with `has(…)` first");
    }

    #[test]
    fn variables_of_macros_are_not_bindings() {
        let compiled = Compiled::new("o.a.all(e, e > 0 && n > 1) && m.size() > 0").unwrap();
        assert_eq!(compiled.variables().iter().collect::<Vec<_>>(), ["m", "n", "o"]);
    }

    #[test]
    fn a_function_that_does_not_exist_is_found_before_it_is_called() {
        let compiled =
            Compiled::new("lenght(o.a) == 1 && o.s.startWith('x') && has(o.s) && o.a.all(e, e > 0)").unwrap();
        assert_eq!(compiled.unknown_functions(), ["lenght", "startWith"]);
    }

    #[rstest]
    #[case("a +", 3)]
    #[case("a = b", 2)]
    #[case("'ä' == 'x' )", 12)]
    fn a_syntax_error_knows_its_place(#[case] source: &str, #[case] offset: usize) {
        assert_eq!(Compiled::new(source).unwrap_err().offset, offset);
    }
}

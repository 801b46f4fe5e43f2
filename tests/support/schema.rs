//! As much of JSON schema as `docs/events.schema.json` is written in.

use serde_json::Value;

/// The schema of an event.
pub fn events() -> Value {
    // Of no schema at all no event is known.
    serde_json::from_str(include_str!("../../docs/events.schema.json")).unwrap_or_default()
}

/// Holds an event against the schema; says what is wrong with it.
pub fn check(event: &Value) -> Result<(), String> {
    let schema = events();
    let name = event["event"].as_str().ok_or("it has no name")?;
    let of = &schema["$defs"][name];
    if of.is_null() {
        return Err(format!("there is no event {name} in docs/events.schema.json"));
    }
    meets(event, of, name)
}

fn meets(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    let keywords = schema.as_object().ok_or("no schema")?;
    for (keyword, expected) in keywords {
        let met = match keyword.as_str() {
            "description" | "required" | "additionalProperties" => true,
            "const" => value == expected,
            "enum" => expected.as_array().is_some_and(|known| known.contains(value)),
            "minimum" => value.is_null() || value.as_f64() >= expected.as_f64(),
            "type" => match expected {
                Value::Array(types) => types.iter().any(|of| is(value, of)),
                of => is(value, of),
            },
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                for (n, item) in items {
                    meets(item, expected, &format!("{at}[{n}]"))?;
                }
                true
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let of = expected.get(name).ok_or(format!("{at}.{name} is not in the schema"))?;
                    meets(value, of, &format!("{at}.{name}"))?;
                }
                true
            }
            other => return Err(format!("the schema says {other}, which nothing here knows")),
        };
        if !met {
            return Err(format!("{at} is {value}, and not {keyword} {expected}"));
        }
    }
    let missing = keywords.get("required").and_then(Value::as_array).into_iter().flatten();
    match missing.filter_map(Value::as_str).find(|name| value.get(name).is_none()) {
        Some(name) => Err(format!("{at}.{name} is missing")),
        None => Ok(()),
    }
}

fn is(value: &Value, of: &Value) -> bool {
    match of.as_str().unwrap_or_default() {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

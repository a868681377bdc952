//! The page of all error codes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::notes::Notes;
use super::source::{self, Failure};

const OPENING: &str = "\
<!-- Written by `cargo xtask docs` from the error types and xtask/src/docs/notes.toml. -->
# Errors

An error is one line: its code, what went wrong with its causes, and, where
there is something to do, a hint.

```text
[RDT-PLAN-016] this host has no /dev/vhost-net (hint: run `modprobe vhost_net`, or set disable_vhost_net = true)
```

Codes are stable: a code is never given a second meaning. An error that was
caused by another one with a code shows the code of its cause. A word in
braces stands for a value.

| Codes | Where they come from |
|---|---|
";

/// Reads the error types of all packages and describes every code.
pub(super) fn page(folders: &[(String, PathBuf)]) -> Result<String> {
    let mut failures = Vec::new();
    for (package, folder) in folders {
        failures.extend(source::failures(package, folder)?);
    }
    render(&by_code(failures)?, &Notes::load()?)
}

/// Sorts by code; a code of two variants is an error.
fn by_code(failures: Vec<Failure>) -> Result<BTreeMap<String, Failure>> {
    let mut all: BTreeMap<String, Failure> = BTreeMap::new();
    for failure in failures {
        ensure!(
            is_code(&failure.code),
            "{}: {} is not RDT-<AREA>-<NNN>",
            failure.place,
            failure.code
        );
        if let Some(other) = all.get(&failure.code) {
            bail!(
                "{} has the code {} of {}",
                failure.place,
                failure.code,
                other.place
            );
        }
        all.insert(failure.code.clone(), failure);
    }
    Ok(all)
}

fn is_code(code: &str) -> bool {
    let parts: Vec<_> = code.split('-').collect();
    let [prefix, area, number] = parts.as_slice() else {
        return false;
    };
    *prefix == "RDT"
        && !area.is_empty()
        && area.bytes().all(|byte| byte.is_ascii_uppercase())
        && number.len() == 3
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn area_of(code: &str) -> &str {
    code.split('-').nth(1).unwrap_or_default()
}

fn render(failures: &BTreeMap<String, Failure>, notes: &Notes) -> Result<String> {
    for code in notes.codes.keys() {
        ensure!(
            failures.contains_key(code),
            "notes.toml: no error has the code {code}"
        );
    }
    let mut areas: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
    for failure in failures.values() {
        areas
            .entry(area_of(&failure.code))
            .or_default()
            .push(failure);
    }
    for area in notes.areas.keys() {
        ensure!(
            areas.contains_key(area.as_str()),
            "notes.toml: no error is of the area {area}"
        );
    }
    let mut page = OPENING.to_owned();
    for area in areas.keys() {
        let note = notes
            .areas
            .get(*area)
            .with_context(|| format!("notes.toml says nothing about the area {area}"))?;
        writeln!(
            page,
            "| [`RDT-{area}`](#{}) | {} |",
            anchor(area, &note.title),
            note.origin
        )?;
    }
    for (area, members) in &areas {
        if let Some(note) = notes.areas.get(*area) {
            writeln!(page, "\n## {area}: {}\n\n{}", note.title, note.when)?;
        }
        for failure in members {
            add_failure(&mut page, failure, notes)?;
        }
    }
    Ok(page)
}

/// The anchor that Markdown renderers give to an area's heading.
fn anchor(area: &str, title: &str) -> String {
    format!("{area}: {title}")
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' => Some(c),
            _ => None,
        })
        .collect()
}

fn add_failure(page: &mut String, failure: &Failure, notes: &Notes) -> Result<()> {
    writeln!(
        page,
        "\n### {}\n\n    {}",
        failure.code,
        plain_fields(&failure.message)
    )?;
    let note = notes.codes.get(&failure.code);
    if let Some(when) = note.and_then(|note| note.when.as_ref()) {
        writeln!(page, "\n{}", when.trim())?;
    }
    for hint in &failure.hints {
        writeln!(page, "\n*Hint:* {}", sentence(&plain_fields(hint)))?;
    }
    if let Some(action) = note.and_then(|note| note.action.as_ref()) {
        writeln!(page, "\n*What to do:* {}", action.trim())?;
    }
    Ok(())
}

/// Fields as a reader knows them: without format options, unnamed ones as `…`.
fn plain_fields(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        let Some((field, after)) = after.split_once('}') else {
            plain.push('{');
            rest = after;
            continue;
        };
        let name = field.split(':').next().unwrap_or_default();
        if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit()) {
            plain.push('…');
        } else {
            plain.push('{');
            plain.push_str(name);
            plain.push('}');
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Text with a full stop, angle brackets kept from becoming HTML.
fn sentence(text: &str) -> String {
    let mut text = text.replace('<', "&lt;");
    if !text.ends_with(['.', '?', '…']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, place: &str) -> Failure {
        Failure {
            code: code.to_owned(),
            message: "no {what:?} at {0}".to_owned(),
            place: place.to_owned(),
            ..Failure::default()
        }
    }

    #[test]
    fn a_code_of_two_variants_is_refused() {
        let twice = vec![
            failure("RDT-X-001", "a: A::One"),
            failure("RDT-X-001", "b: B::Two"),
        ];
        let error = by_code(twice).unwrap_err().to_string();
        assert_eq!(error, "b: B::Two has the code RDT-X-001 of a: A::One");
    }

    #[test]
    fn a_malformed_code_is_refused() {
        for code in ["RDT-X-1", "RDT-x-001", "RDT-001", "RDT-X-KEY", "RDT--001"] {
            assert!(by_code(vec![failure(code, "a: A::One")]).is_err(), "{code}");
        }
    }

    #[test]
    fn fields_lose_their_format() {
        assert_eq!(
            plain_fields("no {what:?} at {0}, {len:#x}"),
            "no {what} at …, {len}"
        );
        assert_eq!(plain_fields("open { end"), "open { end");
    }

    #[test]
    fn a_note_on_an_unknown_code_is_refused() {
        let notes = Notes::parse("[codes.RDT-X-002]\nwhen = \"never\"\n").unwrap();
        let failures = by_code(vec![failure("RDT-X-001", "a")]).unwrap();
        assert!(render(&failures, &notes).is_err());
    }
}

//! On which line of a document stands what a JSON Pointer names.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// Lines between the start of `text`, which is JSON, and the value that `pointer` names; of what
/// is not there, the nearest part around it.
pub(super) fn lines_before(text: &str, pointer: &str) -> usize {
    if !text.contains('\n') {
        return 0;
    }
    let mut here = text;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match inside(here, &step) {
            Some(inner) => here = inner,
            None => break,
        }
    }
    let offset = here.as_ptr() as usize - text.as_ptr() as usize;
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// The text of a member or an item of the object or the array that `text` holds.
fn inside<'t>(text: &'t str, step: &str) -> Option<&'t str> {
    match text.trim_start().as_bytes().first()? {
        b'{' => {
            let members: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            members.get(step).map(|value| value.get())
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.get(step.parse::<usize>().ok()?).map(|value| value.get())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_value_or_of_what_is_around_it_is_found() {
        let text =
            "{\"a/b\":1,\n\"items\":[\n{\"s\":\"\\n\"},\n{\n\"p\":\n5}],\n\"\\u0063\":\n\n{}}";
        for (pointer, lines) in [
            ("", 0),
            ("/a~1b", 0),
            ("/items", 1),
            ("/items/0/s", 2),
            ("/items/1", 3),
            ("/items/1/p", 5),
            ("/items/1/none", 3),
            ("/items/7", 1),
            ("/c", 8),
            ("/a~1b/deeper", 0),
            ("/none", 0),
        ] {
            assert_eq!(lines_before(text, pointer), lines, "{pointer}");
        }
        assert_eq!(lines_before("not JSON\nat all", "/a"), 0);
    }
}

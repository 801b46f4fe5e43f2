//! Lines at the bottom of a terminal that are drawn over again and again.
//!
//! The cursor stays behind the last character, where the terminal writes `^C`: what fills up its line moves that to the next
//! one, and a line is left behind.

use std::io::Write;

/// What is drawn now.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    lines: Vec<String>,
}

impl Drawing {
    /// Draws these lines in the place of those before, in one write.
    pub(super) fn draw(&mut self, lines: Vec<String>, out: &mut impl Write) {
        if lines == self.lines {
            return;
        }
        let text = format!("{}{}", self.erase(), lines.join("\n"));
        self.lines = lines;
        // A closed stderr is no reason to stop a backup.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// Takes it away.
    pub(super) fn clear(&mut self, out: &mut impl Write) {
        self.draw(Vec::new(), out);
    }

    /// Writes a line that stays above what is drawn.
    pub(super) fn line(&mut self, text: &str, out: &mut impl Write) {
        let drawn = self.lines.join("\n");
        let text = format!("{}{text}\n{drawn}", self.erase());
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// Back to the first line, with all of them erased.
    fn erase(&self) -> String {
        match self.lines.len() {
            0 => String::new(),
            1 => "\r\x1b[J".into(),
            lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(work: impl FnOnce(&mut Drawing, &mut Vec<u8>)) -> String {
        let (mut drawing, mut out) = (Drawing::default(), Vec::new());
        work(&mut drawing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_drawn_takes_the_place_of_what_was_before() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let out = drawn(|drawing, out| {
            drawing.draw(lines(&["a", "b"]), out);
            drawing.draw(lines(&["a", "b"]), out);
            drawing.draw(lines(&["c"]), out);
            drawing.line("said", out);
            drawing.clear(out);
        });
        assert_eq!(out, "a\nb\r\x1b[1A\x1b[Jc\r\x1b[Jsaid\nc\r\x1b[J");
    }

    #[test]
    fn where_nothing_is_drawn_a_line_is_a_line() {
        assert_eq!(drawn(|drawing, out| drawing.line("said", out)), "said\n");
        assert_eq!(drawn(|drawing, out| drawing.clear(out)), "");
    }
}

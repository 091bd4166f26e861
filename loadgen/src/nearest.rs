//! The name that somebody may have meant.

/// Slips that still look like a name.
const SLIPS_MAX: usize = 2;

/// `; did you mean X?` for the candidate nearest to `word`, or nothing where none is near. Cost: the product of the lengths
/// for each.
pub(crate) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    let near = candidates
        .iter()
        .map(|&candidate| (slips(word, candidate), candidate))
        .filter(|&(slips, candidate)| slips <= SLIPS_MAX && slips < candidate.len().min(word.len()))
        .min();
    near.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

/// Characters to insert, leave out or replace, where two that changed places are one slip (optimal string alignment).
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for a in 0..=one.len() {
        for b in 0..=other.len() {
            rows[a][b] = if a == 0 || b == 0 {
                a + b
            } else {
                let same = one[a - 1] == other[b - 1];
                let mut least = (rows[a - 1][b - 1] + usize::from(!same))
                    .min(rows[a - 1][b] + 1)
                    .min(rows[a][b - 1] + 1);
                if a > 1 && b > 1 && one[a - 1] == other[b - 2] && one[a - 2] == other[b - 1] {
                    least = least.min(rows[a - 2][b - 2] + 1);
                }
                least
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_mended_and_another_word_is_not() {
        let names = ["name", "weight", "method", "path"];
        for (word, meant) in [
            ("wieght", "weight"),
            ("paht", "path"),
            ("metod", "method"),
            ("Name", "name"),
        ] {
            let text = did_you_mean(word, &names);
            assert_eq!(text, format!("; did you mean `{meant}`?"));
        }
        for word in ["", "x", "colour"] {
            assert_eq!(did_you_mean(word, &names), "");
        }
    }
}

//! How many strings meet the minimums: the entropy of the draw, exactly.

/// One class of characters in a string.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassCount {
    /// How many characters it has; 1 or more.
    pub(super) size: usize,
    /// How many of them a string has at least.
    pub(super) least: u32,
}

/// The natural logarithm of the number of strings of `length` characters that have enough of each class; negative
/// infinity if there is none.
///
/// Class by class: a string of `n` characters over the first classes has `k` of the last of them in one of C(n, k)
/// sets of places. Only sums of positive terms, so no digits cancel out as they would by inclusion and exclusion.
pub(super) fn ln_strings(classes: &[ClassCount], length: u32) -> f64 {
    if classes.iter().all(|class| class.least == 0) {
        let size: usize = classes.iter().map(|class| class.size).sum();
        return if length == 0 { 0.0 } else { f64::from(length) * (size as f64).ln() };
    }
    let length = length as usize;
    let ln_factorial = ln_factorials(length);
    // Strings over no class at all: the empty one.
    let mut strings = vec![f64::NEG_INFINITY; length + 1];
    strings[0] = 0.0;
    for class in classes {
        let ln_size = (class.size as f64).ln();
        strings = (0..=length)
            .map(|n| {
                let terms = (class.least as usize..=n).map(|k| {
                    let places = ln_factorial[n] - ln_factorial[k] - ln_factorial[n - k];
                    places + k as f64 * ln_size + strings[n - k]
                });
                terms.fold(f64::NEG_INFINITY, ln_add)
            })
            .collect();
    }
    strings[length]
}

/// The logarithm of the sum of two numbers given by their logarithms.
pub(super) fn ln_add(one: f64, other: f64) -> f64 {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

fn ln_factorials(max: usize) -> Vec<f64> {
    let sums = (1..=max).scan(0.0, |sum, n| {
        *sum += (n as f64).ln();
        Some(*sum)
    });
    std::iter::once(0.0).chain(sums).collect()
}

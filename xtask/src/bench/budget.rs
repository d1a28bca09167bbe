//! Figures beside their budgets. All are printed before the run fails for those that miss one.

use std::sync::{Mutex, PoisonError};

use super::say;

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
}
use Budget::{Least, Most};

static MISSES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Least(bound) => write!(f, "≥ {bound}"),
            Most(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// The budget as it is printed behind the figure; a miss is kept for the end.
pub(super) fn judged(what: &str, figure: f64, budget: Budget) -> Budget {
    let kept = match budget {
        Least(bound) => figure >= bound,
        Most(bound) => figure <= bound,
    };
    if !kept {
        MISSES.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {figure:.3} ({budget})"));
    }
    budget
}

/// Fails when a figure has missed its budget.
pub(super) fn settle() -> anyhow::Result<()> {
    let misses = std::mem::take(&mut *MISSES.lock().unwrap_or_else(PoisonError::into_inner));
    if misses.is_empty() {
        return say("every figure is within its budget");
    }
    say("beyond their budget:")?;
    for miss in &misses {
        say(&format!("  {miss}"))?;
    }
    anyhow::bail!("{} figure(s) beyond their budget", misses.len())
}

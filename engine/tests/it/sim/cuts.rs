//! What is left out of a run, so that a failing one can be made small. The dice are thrown all the same: what is left stays as it was.

/// Something that a run can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Crashes,
    SecondCrash,
    StoreFaults,
    FullDisks,
    ReadFaults,
    DeafHosts,
    ClockJumps,
    UnknownKinds,
    Drains,
    Concurrency,
    Cancels,
    SecondTask,
    ThirdTask,
    Pauses,
    Delays,
    Lies,
    ProbeTrouble,
    UndoTrouble,
    RunTrouble,
    ByHand,
    SubTask,
    Locks,
    Pivot,
    Fingerprints,
    SecondStep,
    ThirdStep,
    MoreSteps,
    Edges,
    Records,
    Slots,
    Retries,
    Gates,
    Looks,
}

/// All of them: the ones that take most away come first.
pub const ALL: [Cut; 33] = [
    Cut::Crashes,
    Cut::SecondTask,
    Cut::SecondStep,
    Cut::StoreFaults,
    Cut::SecondCrash,
    Cut::ThirdTask,
    Cut::MoreSteps,
    Cut::ThirdStep,
    Cut::SubTask,
    Cut::Locks,
    Cut::Cancels,
    Cut::Gates,
    Cut::Looks,
    Cut::Pivot,
    Cut::Fingerprints,
    Cut::FullDisks,
    Cut::ReadFaults,
    Cut::DeafHosts,
    Cut::ClockJumps,
    Cut::UnknownKinds,
    Cut::Drains,
    Cut::Concurrency,
    Cut::Lies,
    Cut::ProbeTrouble,
    Cut::UndoTrouble,
    Cut::RunTrouble,
    Cut::ByHand,
    Cut::Pauses,
    Cut::Delays,
    Cut::Edges,
    Cut::Records,
    Cut::Slots,
    Cut::Retries,
];

/// A set of cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts(u64);

impl Cuts {
    pub fn with(self, cut: Cut) -> Self {
        Self(self.0 | 1 << cut as u64)
    }

    /// Whether this is left in.
    pub fn keep(self, cut: Cut) -> bool {
        self.0 & (1 << cut as u64) == 0
    }

    /// Reads what [`Cuts::text`] writes.
    pub fn parse(text: &str) -> Self {
        text.split(',').filter(|word| !word.is_empty()).fold(Self::default(), |cuts, word| {
            let cut = ALL.into_iter().find(|cut| format!("{cut:?}") == word);
            cuts.with(cut.unwrap_or_else(|| panic!("{word:?} is nothing that can be cut")))
        })
    }

    pub fn text(self) -> String {
        let cut = ALL.into_iter().filter(|cut| !self.keep(*cut));
        cut.map(|cut| format!("{cut:?}")).collect::<Vec<_>>().join(",")
    }
}

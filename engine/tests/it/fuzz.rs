//! Damaged journals, at random: events are decoded and replayed, or refused with words; never a panic, and never a story that an honest
//! replay of its own events would not tell.

use kedge_engine::journal;
use kedge_engine::machine::Machine;
use proptest::prelude::*;

use crate::golden::golden;

/// What is done to a line of a golden file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    Cut(usize),
    Word(usize, &'static str),
    Swapped(usize),
    Twice,
}

fn damage() -> impl Strategy<Value = Damage> {
    let words = prop::sample::select(vec![
        "null",
        "-1",
        "1e400",
        "\"\"",
        "[]",
        "{}",
        "18446744073709551616",
        "\"\\ud800\"",
        "true",
    ]);
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), words).prop_map(|(at, word)| Damage::Word(at, word)),
        any::<usize>().prop_map(Damage::Swapped),
        Just(Damage::Twice),
    ]
}

/// The line after its damage; a value of JSON is found by the colon before it.
fn damaged(line: &str, damage: &Damage) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    match damage {
        Damage::Byte(at, byte) => {
            let at = at % bytes.len();
            bytes[at] = *byte;
        }
        Damage::Cut(at) => bytes.truncate(at % bytes.len()),
        Damage::Word(at, word) => {
            let colons: Vec<usize> = line.match_indices(':').map(|(at, _)| at + 1).collect();
            let start = colons[at % colons.len()];
            let end = line[start..].find([',', '}']).map_or(line.len(), |end| start + end);
            bytes.splice(start..end, word.bytes());
        }
        Damage::Swapped(_) | Damage::Twice => {}
    }
    bytes
}

proptest! {
    #[test]
    fn damaged_journals(story in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), damage in damage()) {
        let all = golden();
        let (_, lines) = &all[story.index(all.len())];
        let at = place.index(lines.len());
        let mut stored: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        stored[at] = damaged(&lines[at], &damage);
        match damage {
            Damage::Swapped(other) => stored.swap(at, other % lines.len()),
            Damage::Twice => stored.insert(at, stored[at].clone()),
            Damage::Byte(..) | Damage::Cut(_) | Damage::Word(..) => {}
        }
        let mut machine: Option<Machine> = None;
        for bytes in &stored {
            let Ok(record) = journal::decode(bytes) else { return Ok(()) };
            let applied = match &mut machine {
                None => match Machine::begin(&record) {
                    Ok(begun) => {
                        machine = Some(begun);
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                },
                Some(machine) => machine.apply(&record).map_err(|error| error.to_string()),
            };
            if let Err(why) = applied {
                prop_assert!(!why.is_empty());
                return Ok(());
            }
            // What should be in flight can be asked at every moment.
            if let Some(machine) = &machine {
                let _ = machine.next(record.at);
            }
        }
    }
}

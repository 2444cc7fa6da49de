//! Power cuts during the first boot: none loses the machine.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qemu_tests::random::Random;

use super::*;

/// When the disk's layout changes and the data file system is made: the most delicate seconds.
const MAKING: &str = "first boot: making the data partition";
const MAKING_TAKES: Duration = Duration::from_secs(3);
/// As many cuts at a time as the host has room for machines, mostly.
pub(super) const AT_ONCE: usize = 2;

/// When the power goes.
#[derive(Clone, Copy)]
enum When {
    /// So long after it came.
    AfterPower(Duration),
    /// So long after the data partition begins to be made.
    AfterMaking(Duration),
}

pub(super) struct Cut {
    pub(super) number: u32,
    pub(super) when: String,
    /// From power to cut.
    pub(super) after: Duration,
    /// The console's last words.
    pub(super) said: String,
    /// Why the machine is lost.
    pub(super) result: Result<(), String>,
}

/// A panic's words.
pub(super) fn why(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(_) => "a failure without words".to_owned(),
    }
}

/// Each cut falls at another time of a first boot that starts from the fresh image; the machine then boots to its end, all services
/// answer, and the file system is clean.
#[test]
fn no_power_cut_during_the_first_boot_loses_the_machine() {
    let soak = std::env::var("CAIRN_SOAK").is_ok_and(|value| value == "1");
    let count: u32 = if soak { 20 } else { 5 };
    let mut random = Random::seeded();
    // Fractions, in millionths: the odd cuts are spread over the whole first boot, one in each equal part of it.
    let chances: Vec<u32> = (0..count).map(|_| random.below(1_000_000) as u32).collect();
    let spread = count.div_ceil(2);
    let cuts = make(count, |index| {
        let chance = chances[index as usize];
        let when = if index.is_multiple_of(2) {
            let whole = must(prepared::base()).first_boot;
            When::AfterPower(whole * (index / 2 * 1_000_000 + chance) / spread / 1_000_000)
        } else {
            When::AfterMaking(MAKING_TAKES * chance / 1_000_000)
        };
        cut(index + 1, when)
    });
    if soak {
        must(report("soak.md", "Power cuts during the first boot", &random, &cuts));
    }
    none_is_lost(&cuts, count);
}

/// The numbers of the cuts that alone are made: `CAIRN_CUT=101,140`, with the seed and the count of when they were lost.
fn only() -> Option<Vec<u32>> {
    let numbers = std::env::var("CAIRN_CUT").ok()?;
    Some(numbers.split(',').map(|number| must(number.parse())).collect())
}

/// Makes so many cuts, a few at a time, and tells each as it comes; returns them in their order.
pub(super) fn make(count: u32, cut: impl Fn(u32) -> Cut + Sync) -> Vec<Cut> {
    let only = only();
    let next = AtomicU32::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    if only.as_ref().is_some_and(|only| !only.contains(&(index + 1))) {
                        continue;
                    }
                    let cut = cut(index);
                    eprintln!("{}", row(&cut));
                    done.lock().unwrap().push(cut);
                }
            });
        }
    });
    let mut cuts = done.into_inner().unwrap();
    cuts.sort_by_key(|cut| cut.number);
    cuts
}

pub(super) fn none_is_lost(cuts: &[Cut], count: u32) {
    let lost: Vec<String> = cuts.iter().filter(|cut| cut.result.is_err()).map(row).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert_eq!(cuts.len(), only().map_or(count as usize, |only| only.len()));
}

/// One cut, and the boot after it.
fn cut(number: u32, when: When) -> Cut {
    let home = fresh(&format!("cut-{number}"));
    let mut machine = must(home.start());
    let (words, wait) = match when {
        When::AfterPower(wait) => ("the power came", wait),
        When::AfterMaking(wait) => {
            must(machine.wait_for(MAKING, READY));
            ("the data partition was begun", wait)
        }
    };
    // Time is what is tested here, so time is waited for.
    std::thread::sleep(wait);
    let after = machine.uptime();
    must(machine.kill());
    let said = machine.serial.lines().last().map(|(_, line)| line.clone());
    drop(machine);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut machine = ready(&home);
        all_services_answer(&mut machine);
        switch_off(machine);
        is_clean(&home);
    }));
    Cut {
        number,
        when: format!("{:.2} s after {words}", wait.as_secs_f64()),
        after,
        said: said.unwrap_or_default(),
        result: result.map_err(why),
    }
}

fn row(cut: &Cut) -> String {
    let said: String = cut.said.chars().filter(|c| !c.is_control() && *c != '|').collect();
    format!(
        "| {} | {} | {:.2} | {} | {} |",
        cut.number,
        cut.when,
        cut.after.as_secs_f64(),
        said.trim(),
        match &cut.result {
            Ok(()) => "boots, answers, clean".to_owned(),
            Err(why) => format!("LOST: {}", why.replace(['\n', '|'], " ")),
        }
    )
}

pub(super) fn report(file: &str, title: &str, random: &Random, cuts: &[Cut]) -> std::io::Result<()> {
    let lost = cuts.iter().filter(|cut| cut.result.is_err()).count();
    let mut text = format!(
        "# {title}\n\n{} cuts, {lost} lost. `CAIRN_SEED={}` repeats their times.\n\n",
        cuts.len(),
        random.seed()
    );
    text.push_str("| cut | when | seconds from power | the console's last words | then |\n|---|---|---|---|---|\n");
    for cut in cuts {
        let _ = writeln!(text, "{}", row(cut));
    }
    let folder = images::target().join("qemu-tests");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(file), text)
}

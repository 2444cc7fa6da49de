//! `imagegen flash`: shows what would be overwritten, asks, writes, verifies.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Outcome;
use super::arguments::Flash;
use super::interrupt::Interrupt;
use crate::flash::{self, Plan, Step};
use crate::report::{bytes, duration, print, print_json};

pub(super) fn run(options: &Flash, interrupt: &Interrupt, json: bool) -> Outcome {
    let plan = flash::plan(&options.image, &options.device)?;
    if options.dry_run {
        return if json {
            print_json(&json!({ "plan": plan }))
        } else {
            print(&describe(&plan))
        };
    }
    if !plan.obstacles.is_empty() && !options.force {
        return Err(flash::FlashError::Refused {
            path: plan.device,
            obstacles: plan.obstacles,
        }
        .into());
    }
    if !json {
        write!(std::io::stderr(), "{}", describe(&plan))?;
    }
    interrupt.note("the device was left as it is");
    if !options.yes {
        confirm(&plan)?;
    }
    interrupt.note("the device holds half an image now; run the same command again");
    let begun = Instant::now();
    let done = {
        let bars = [bar("write", &plan, json), bar("verify", &plan, json)];
        let done = flash::apply(&plan, options.force, &|step, more| {
            if step == Step::Verify {
                interrupt.note(
                    "the image was written but not wholly read back; run the same command again to be sure of it",
                );
            }
            bars[usize::from(step == Step::Verify)].inc(more);
        });
        bars.iter().for_each(ProgressBar::finish_and_clear);
        done?
    };
    if json {
        return print_json(
            &json!({ "flashed": done, "device": plan.device, "seconds": begun.elapsed().as_secs_f64() }),
        );
    }
    print(&format!(
        "{}: {} written, read back and verified in {}\nsha256 {}\n",
        plan.device.display(),
        bytes(done.bytes),
        duration(begun.elapsed()),
        done.sha256
    ))
}

fn describe(plan: &Plan) -> String {
    let model = plan.model.as_deref().map(|m| format!(", {m}")).unwrap_or_default();
    let mut text = format!(
        "write   {} ({})\nto      {} ({}{model})\nthen    read it back and compare; everything on the device is lost\n",
        plan.image.display(),
        bytes(plan.image_bytes),
        plan.device.display(),
        bytes(plan.device_bytes)
    );
    for obstacle in &plan.obstacles {
        text.push_str(&format!("against {obstacle}\n"));
    }
    text
}

fn confirm(plan: &Plan) -> Outcome {
    let device = plan.device.display().to_string();
    if !std::io::stdin().is_terminal() {
        return Err(format!("nobody to ask whether {device} may be overwritten: add --yes").into());
    }
    write!(std::io::stderr(), "Type {device} to overwrite it: ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == device {
        Ok(())
    } else {
        Err(format!("{device} was left as it is").into())
    }
}

fn bar(name: &'static str, plan: &Plan, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{msg:>9} [{bar:30}] {binary_bytes:>11} / {binary_total_bytes:<11} {binary_bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(plan.image_bytes).with_style(style).with_message(name)
}

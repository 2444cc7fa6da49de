use super::*;
use crate::testing::Model;

fn file() -> &'static Path {
    Path::new("/data/site/site.toml")
}

fn note(why: &str) -> Note {
    Note {
        who: "root".into(),
        when: "2026-03-01T12:00:00Z".parse().unwrap(),
        why: why.into(),
    }
}

/// What a site's parser would do: these texts are right if they begin with `good`.
fn accept(text: &str) -> Result<String, String> {
    match text.strip_prefix("good") {
        Some(rest) => Ok(rest.to_owned()),
        None => Err(format!("`{text}` is wrong")),
    }
}

fn with(texts: &[&str]) -> Model {
    let disk = Model::default();
    for text in texts {
        History::of(&disk, file()).accept(text, note(text)).unwrap();
    }
    disk
}

fn texts(disk: &Model) -> Vec<(u64, String)> {
    let all = History::of(disk, file()).list().unwrap();
    all.into_iter()
        .map(|version| (version.number, version.text.unwrap()))
        .collect()
}

fn told(disk: &Model) -> Option<String> {
    History::of(disk, file()).current(accept).unwrap().unwrap().instead
}

#[test]
fn every_accepted_version_is_kept_with_who_when_and_why() {
    let disk = with(&["good 1", "good 2"]);
    let list = History::of(&disk, file()).list().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].number, list[0].text.as_deref()), (2, Ok("good 2")));
    assert_eq!(list[1].note, Some(note("good 1")));
    assert_eq!(disk.read(file()).unwrap(), b"good 2");
    let current = History::of(&disk, file()).current(accept).unwrap().unwrap();
    assert_eq!((current.value.as_str(), current.instead), (" 2", None));
}

#[test]
fn the_same_text_again_is_no_other_version() {
    let disk = with(&["good 1", "good 1", "good 2", "good 1"]);
    assert_eq!(texts(&disk).len(), 3);
    // It is put back where somebody wrote over it.
    put(&disk, file(), b"good 5", 0o600).unwrap();
    assert_eq!(History::of(&disk, file()).accept("good 1", note("")).unwrap(), 3);
    assert_eq!(disk.read(file()).unwrap(), b"good 1");
}

#[test]
fn a_text_that_the_owner_wrote_into_the_file_becomes_a_version_and_the_file_is_left_alone() {
    let disk = with(&["good 1"]);
    put(&disk, file(), b"good own", 0o600).unwrap();
    disk.forget();
    History::of(&disk, file()).accept("good own", note("by hand")).unwrap();
    assert_eq!(texts(&disk)[0], (2, "good own".to_owned()));
    let written = |state: &crate::testing::State| state.contains_key(Path::new("/data/site/site.toml.new"));
    assert!(!disk.crashes().iter().any(written));
}

#[test]
fn a_text_that_was_replaced_before_it_was_recorded_is_no_version_and_does_not_come_back() {
    let disk = with(&["good 1", "good 2"]);
    History::of(&disk, file())
        .record("good between", note("by hand"))
        .unwrap();
    assert_eq!(disk.read(file()).unwrap(), b"good 2");
    assert_eq!(texts(&disk).len(), 2);
    put(&disk, file(), b"good own", 0o600).unwrap();
    History::of(&disk, file()).record("good own", note("by hand")).unwrap();
    assert_eq!(texts(&disk)[0], (3, "good own".to_owned()));
}

#[test]
fn what_the_owner_writes_while_the_text_before_it_is_recorded_stays() {
    let disk = with(&["good 1"]);
    put(&disk, file(), b"good own", 0o600).unwrap();
    disk.meanwhile
        .replace(Some((file().to_owned(), b"good later".to_vec())));
    History::of(&disk, file()).record("good own", note("by hand")).unwrap();
    assert!(disk.meanwhile.take().is_none());
    assert_eq!(disk.read(file()).unwrap(), b"good later");
    assert_eq!(texts(&disk)[0], (2, "good own".to_owned()));
}

#[test]
fn a_file_that_is_gone_or_wrong_leaves_the_last_good_version_in_force_and_says_so() {
    let disk = with(&["good 1", "good 2"]);
    disk.remove(file()).unwrap();
    assert_eq!(
        told(&disk).unwrap(),
        "/data/site/site.toml is gone; version 2, the last good one, is in force"
    );
    put(&disk, file(), b"bad", 0o600).unwrap();
    assert_eq!(
        told(&disk).unwrap(),
        "`bad` is wrong; version 2, the last good one, is in force"
    );
    put(&disk, file(), b"\xff", 0o600).unwrap();
    assert_eq!(
        told(&disk).unwrap(),
        "/data/site/site.toml is not text; version 2, the last good one, is in force"
    );
    // Nothing of that was written over what the owner has there.
    assert_eq!(disk.read(file()).unwrap(), b"\xff");
}

#[test]
fn a_damaged_or_outdated_version_is_passed_over_for_one_before_it() {
    let disk = with(&["good 1", "good 2", "good 3"]);
    disk.remove(file()).unwrap();
    // It still begins with `good`: only the hash tells.
    put(&disk, Path::new("/data/site/history/3.toml"), b"good X", 0o600).unwrap();
    assert!(told(&disk).unwrap().contains("version 2"));
    let damaged = History::of(&disk, file()).version(3).unwrap().unwrap();
    assert_eq!(
        damaged.text.unwrap_err(),
        "version 3 is damaged: it is not the text that was accepted"
    );
    let current = History::of(&disk, file()).current(|text| match text {
        "good 1" => Ok(()),
        _ => Err("not for this image"),
    });
    assert!(current.unwrap().unwrap().instead.unwrap().contains("version 1"));
    // Without its note a version is as good as its text.
    disk.remove(Path::new("/data/site/history/2.json")).unwrap();
    let bare = History::of(&disk, file()).version(2).unwrap().unwrap();
    assert_eq!((bare.note, bare.text.as_deref()), (None, Ok("good 2")));
}

#[test]
fn nothing_chosen_yet_is_no_error_and_a_wrong_file_without_versions_is() {
    let disk = Model::default();
    let history = History::of(&disk, file());
    assert_eq!(history.current(accept).unwrap(), None);
    history.settle().unwrap();
    assert_eq!(history.list().unwrap(), []);
    disk.make_folder(file().parent().unwrap()).unwrap();
    put(&disk, file(), b"bad", 0o600).unwrap();
    assert_eq!(history.current(accept).unwrap_err().to_string(), "`bad` is wrong");
}

#[test]
fn the_oldest_versions_go_and_numbers_only_grow() {
    let disk = Model::default();
    let history = History::of(&disk, file());
    let total = KEPT as u64 + 7;
    for number in 1..=total {
        let given = history.accept(&format!("good {number}"), note("")).unwrap();
        assert_eq!(given, number);
        disk.forget();
    }
    let numbers = history.numbers().unwrap();
    assert_eq!(numbers, (8..=total).collect::<Vec<_>>());
    assert_eq!(history.with("json").unwrap(), numbers);
    assert_eq!(history.version(7).unwrap(), None);
}

#[test]
fn a_power_cut_at_any_moment_loses_no_version_and_makes_none_up() {
    for before in [&[][..], &["good 1"], &["good 1", "good 2"]] {
        let disk = with(before);
        let count = before.len() as u64;
        let first = disk.crashes().len();
        History::of(&disk, file()).accept("good new", note("new")).unwrap();
        for state in disk.could_be_left() {
            let left = Model::after(state);
            History::of(&left, file()).settle().unwrap();
            assert_eq!(texts(&left)[0], (count + 1, "good new".to_owned()), "it was lost");
        }
        let mut outcomes = std::collections::BTreeSet::new();
        for state in disk.crashes().into_iter().skip(first) {
            // The next choice comes first: an error stopped the last one, and not a power cut.
            let going_on = Model::after(state.clone());
            let was = History::of(&going_on, file()).text().unwrap();
            History::of(&going_on, file())
                .accept("good next", note("next"))
                .unwrap();
            assert_eq!(texts(&going_on).get(1).map(|(_, text)| text.clone()), was);
            let left = Model::after(state);
            let history = History::of(&left, file());
            let file = history.text().unwrap();
            let newest = before.last().map(|text| (*text).to_owned());
            assert!(file == newest || file.as_deref() == Some("good new"), "{file:?}");
            // The machine comes up again.
            assert_eq!(
                history.current(accept).unwrap().and_then(|current| current.instead),
                None
            );
            history.settle().unwrap();
            let is_new = file.as_deref() == Some("good new");
            let known = texts(&left);
            assert_eq!(known.len() as u64, count + u64::from(is_new), "{known:?}");
            assert_eq!(known.first().map(|(_, text)| text.clone()), file);
            if is_new {
                assert_eq!(history.version(count + 1).unwrap().unwrap().note, Some(note("new")));
            }
            assert_eq!(history.with("json").unwrap(), history.numbers().unwrap());
            let next = history.accept("good next", note("next")).unwrap();
            assert_eq!(next, known.len() as u64 + 1);
            outcomes.insert(is_new);
        }
        assert_eq!(outcomes.len(), 2);
    }
}

#[test]
fn a_power_cut_while_the_oldest_goes_leaves_the_rest() {
    let disk = Model::default();
    let history = History::of(&disk, file());
    for number in 1..=KEPT {
        history.accept(&format!("good {number}"), note("")).unwrap();
        disk.forget();
    }
    let first = disk.crashes().len();
    history.accept("good new", note("new")).unwrap();
    for state in disk.crashes().into_iter().skip(first) {
        let left = Model::after(state);
        let history = History::of(&left, file());
        history.settle().unwrap();
        let numbers = history.numbers().unwrap();
        assert!(numbers.len() >= KEPT && numbers.ends_with(&[KEPT as u64]) || numbers.ends_with(&[KEPT as u64 + 1]));
        assert_eq!(history.with("json").unwrap(), numbers);
        let next = history.accept("good next", note("next")).unwrap();
        assert_eq!(next, numbers.last().unwrap() + 1);
        assert_eq!(history.numbers().unwrap().len(), KEPT);
    }
}

#[test]
fn a_difference_is_shown_as_diff_shows_it() {
    let shown = diff(("version 1", "a\nb\nc\n"), ("version 2", "a\nB\nc\n"));
    assert_eq!(shown, "--- version 1\n+++ version 2\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
    assert_eq!(diff(("1", "a\n"), ("2", "a\n")), "");
    let unended = diff(("1", "a"), ("2", "b\n"));
    assert!(unended.contains("No newline at end of file"), "{unended}");
}

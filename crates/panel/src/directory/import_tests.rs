use super::*;

fn problems(text: &str) -> Vec<(u64, &'static str, &'static str)> {
    let found = Import::read(text).problems;
    found
        .iter()
        .map(|problem| (problem.line, problem.column, problem.why))
        .collect()
}

#[test]
fn a_table_may_come_from_any_spreadsheet() {
    let table = "\u{feff}UID;Given;Surname;Mail;Groups\r\nada;Ada;Lovelace;ada@birch.example;friends staff\r\n;;;;\r\n\"bob\";\"Bob; the second\";;;\r\n";
    let import = Import::read(table);
    assert_eq!(import.problems, []);
    let rows: Vec<_> = import
        .rows
        .iter()
        .map(|row| (row.line, row.card.given.as_str(), row.groups.len()))
        .collect();
    assert_eq!(rows, [(2, "Ada", 2), (4, "Bob; the second", 0)]);
}

#[test]
fn every_wrong_row_is_reported_with_its_line() {
    let table = "uid,given,mail,password,groups\nada,Ada,ada@birch.example,,\nÄ,A,,,\nada,Again,,,\nbob,Bob,ADA@birch.example,,\ncid,Cid\n\
                 eve,Eve,,12345678,\nfay,,,,\n?,Gus,x,,a+b\n";
    assert_eq!(
        problems(table),
        [
            (3, "uid", "wrong.uid-form"),
            (4, "uid", "wrong.csv-again"),
            (5, "mail", "wrong.csv-again"),
            (6, "", "wrong.csv-fields"),
            (7, "password", "wrong.password-weak"),
            (8, "surname", "wrong.person-name-empty"),
            (9, "uid", "wrong.uid-form"),
            (9, "mail", "wrong.mail"),
            (9, "groups", "wrong.group-form"),
        ]
    );
    assert_eq!(problems("uid\n"), [(1, "", "wrong.csv-empty")]);
    assert_eq!(problems(""), [(1, "uid", "wrong.csv-uid")]);
    assert_eq!(problems("uid,shoe\nx,1\n"), [(1, "", "wrong.csv-column")]);
}

fn many(count: usize, password: &str) -> String {
    let rows = (0..count).map(|i| format!("p{i},P,{password}\n"));
    "uid,given,password\n".to_owned() + &rows.collect::<String>()
}

#[test]
fn a_table_has_a_bounded_number_of_rows_of_passwords_and_of_wrong_places() {
    let import = Import::read(&many(MOST, ""));
    assert_eq!((import.len(), import.problems.len()), (MOST, 0));
    let import = Import::read(&many(MOST + 1, ""));
    assert_eq!(import.len(), MOST);
    assert_eq!(
        (import.problems[0].why, import.problems[0].value.as_str()),
        ("wrong.csv-many", "10001")
    );
    assert_eq!(
        problems(&many(PASSWORDS + 1, "velvet otter 7 quarry lamp")),
        [(1, "password", "wrong.csv-passwords")]
    );
    let wrong = "uid,given\n".to_owned() + &"!,P\n".repeat(MOST + 1);
    let found = Import::read(&wrong).problems;
    assert_eq!((found.len(), found[0].why), (TOLD + 1, "wrong.csv-many"));
}

#[test]
fn a_password_of_a_wrong_row_is_not_shown() {
    let found = Import::read("uid,given,password\neve,Eve,12345678\n").problems;
    assert!(found.iter().all(|problem| !problem.value.contains("1234")));
}

#[test]
fn what_is_in_the_directory_already_is_reported_too() {
    let mut import = Import::read("uid,given,mail,groups\nada,A,,\nowner,O,,\nbob,B,al@birch.example,none\n");
    let ada = Person {
        uid: "ada".into(),
        aliases: vec!["AL@birch.example".into()],
        ..Person::default()
    };
    import.compare(&[ada], &[], &["owner".into()]);
    let found: Vec<_> = import
        .problems
        .iter()
        .map(|problem| (problem.line, problem.why))
        .collect();
    assert_eq!(
        found,
        [
            (2, "wrong.uid-taken"),
            (3, "wrong.uid-taken"),
            (4, "wrong.mail-taken"),
            (4, "wrong.group-gone")
        ]
    );
}

#[test]
fn what_is_wrong_in_a_row_does_not_hide_what_the_directory_has_against_the_rest_of_it() {
    let mut import = Import::read("uid,given,mail,aliases\nada,,AL@birch.example,x\n?,B,al@birch.example,\n");
    let ada = Person {
        uid: "ada".into(),
        aliases: vec!["al@birch.example".into()],
        ..Person::default()
    };
    import.compare(&[ada], &[], &[]);
    let found: Vec<_> = import.problems.iter().map(|one| (one.line, one.why)).collect();
    assert_eq!(
        found,
        [
            (2, "wrong.person-name-empty"),
            (2, "wrong.mail"),
            (2, "wrong.uid-taken"),
            (2, "wrong.mail-taken"),
            (3, "wrong.uid-form"),
            (3, "wrong.csv-again"),
            (3, "wrong.mail-taken"),
        ]
    );
}

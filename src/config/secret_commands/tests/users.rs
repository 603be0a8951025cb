//! Several users of one command, and what becomes of it when one of them goes.

use super::*;

/// An account that shows a gateway a token, and an issuer that gives its keys for the same one.
#[test]
fn two_settings_with_one_command_both_have_what_it_gives_last() {
    let case = Case::new();
    let good = |_: &[u8]| Ok(None);
    let read = |with_user: bool| {
        case.commands.reading();
        let output = case.commands.output(&case.command(), &good).unwrap();
        let user = with_user.then(|| case.commands.printer(&case.command()).unwrap());
        case.commands.read();
        (user, String::from_utf8(output.value.to_vec()).unwrap())
    };
    case.prints("one");
    let (user, value) = read(true);
    assert_eq!(value, "one");
    // One who looks has it run: the settings are read, since they have the old value.
    case.prints("two");
    case.passes(10);
    assert!(!case.commands.due());
    let seen = user.as_ref().unwrap().output(&good, true).unwrap();
    assert_eq!(*seen.value, b"two");
    assert!(case.commands.due() && !case.commands.due());
    let (user_again, value) = read(true);
    assert_eq!((&*value, case.runs()), ("two", 2));
    // The same value again is no reason.
    case.passes(10);
    user_again.as_ref().unwrap().output(&good, true).unwrap();
    assert_eq!(case.runs(), 3);
    case.passes(60);
    assert!(!case.commands.due());
    // It is due: the settings don't wait for one who looks, also when there is none any more.
    for with_user in [true, false] {
        drop(read(with_user));
        case.commands.renew();
        case.passes(10);
        assert!(case.commands.due(), "{with_user}");
    }
    drop((user, user_again));
}

/// Settings that were refused had it as something that they look at.
#[test]
fn refused_settings_do_not_stop_the_renewal_of_those_in_force() {
    let case = Case::new();
    case.prints("one");
    case.output().unwrap();
    case.commands.reading();
    drop(case.commands.printer(&case.command()).unwrap());
    case.commands.renew();
    case.passes(10);
    assert!(case.commands.due());
}

/// No alert for ever: an account that is gone holds its command a little longer than the settings are read.
#[test]
fn a_command_that_failed_is_forgotten_when_its_last_user_lets_go_of_it() {
    let case = Case::new();
    let printer = case.commands.printer(&case.command()).unwrap();
    assert!(printer.output(&|_| Ok(None), false).is_err());
    case.commands.read();
    case.commands.reading();
    case.commands.read();
    case.passes(10);
    assert_eq!(case.commands.runs().failing, 1);
    drop(printer);
    assert_eq!(case.commands.runs().failing, 0);
}

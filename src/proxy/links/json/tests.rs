use proptest::prelude::*;

use super::*;
use crate::upstream::Origin;

const CLIENT: &str = "http://localhost:8080";

fn rewrite(pieces: &[&[u8]]) -> Vec<u8> {
    let mut rewriter = JsonRewriter::new(&LinkRewriter::new(&Origin::commercial()), CLIENT);
    let mut out = Vec::new();
    for piece in pieces {
        match rewriter.push(piece) {
            Some(changed) => out.extend(changed),
            None => out.extend_from_slice(piece),
        }
    }
    out.extend(rewriter.finish());
    out
}

fn whole(text: &str) -> String {
    String::from_utf8(rewrite(&[text.as_bytes()])).unwrap()
}

#[test]
fn links_change_and_nothing_else() {
    for (from, to) in [
        (
            r#"{"href":"https://cloud.mongodb.com/api/x"}"#,
            r#"{"href":"http://localhost:8080/api/x"}"#,
        ),
        (
            r#"{"href" :  "https://cloud.mongodb.com//api/x"}"#,
            r#"{"href" :  "http://localhost:8080//api/x"}"#,
        ),
        (
            r#"{"href":"https:\/\/cloud.mongodb.com\/api\/x"}"#,
            r#"{"href":"http://localhost:8080\/api\/x"}"#,
        ),
        (
            r#"{"href":"https:\u002f\u002Fcloud.mongodb.com/\u002fapi/x"}"#,
            r#"{"href":"http://localhost:8080/\u002fapi/x"}"#,
        ),
        (
            r#"{"\u0068ref":"HTTPS://CLOUD.mongodb.com:443/api/"}"#,
            r#"{"\u0068ref":"http://localhost:8080/api/"}"#,
        ),
        (
            r#"[{"a":[{"href":"https://cloud.mongodb.com/api/1"},{"href":"https://cloud.mongodb.com/api/2"}]}]"#,
            r#"[{"a":[{"href":"http://localhost:8080/api/1"},{"href":"http://localhost:8080/api/2"}]}]"#,
        ),
        (
            "{\"href\"\r\n\t:\n\"https://cloud.mongodb.com/api/x\"}",
            "{\"href\"\r\n\t:\n\"http://localhost:8080/api/x\"}",
        ),
    ] {
        assert_eq!(whole(from), to);
    }
    for same in [
        r#"{"rel":"https://cloud.mongodb.com/api/x"}"#,
        r#"["href","https://cloud.mongodb.com/api/x"]"#,
        r#"{"a":"href","b":"https://cloud.mongodb.com/api/x"}"#,
        r#"{"a":"\"href\":\"https://cloud.mongodb.com/api/x\""}"#,
        r#"{"href":"https://cloud.mongodb.com.evil/api/x"}"#,
        r#"{"href":"https://cloud.mongodb.com/apix"}"#,
        r#"{"href":"https://cloud.mongodb.com/API/x"}"#,
        r#"{"href":"https://cloud.mongodb.com:444/api/x"}"#,
        r#"{"href":"http://cloud.mongodb.com/api/x"}"#,
        r#"{"href":"xhttps://cloud.mongodb.com/api/x"}"#,
        r#"{"href":"https://cloud.mongodb.com"}"#,
        r#"{"href":"https://cloud.mongodb.com/api"}"#,
        r#"{"href":null,"x":"https://cloud.mongodb.com/api/x"}"#,
        r#"{"href":["https://cloud.mongodb.com/api/x"]}"#,
        r#"{"hrefs":"https://cloud.mongodb.com/api/x","xhref":"https://cloud.mongodb.com/api/x"}"#,
        r#"{"HREF":"https://cloud.mongodb.com/api/x"}"#,
        r#"{"href":"https:\\/\\/cloud.mongodb.com/api/x"}"#,
        r#"{"href":"https://cloud.mongodb.com/\u00"#,
        r#"{"href":"https://cloud.mong"#,
    ] {
        assert_eq!(whole(same), same);
    }
}

#[test]
fn what_may_be_a_link_is_all_that_is_held_back() {
    let mut rewriter = JsonRewriter::new(&LinkRewriter::new(&Origin::commercial()), CLIENT);
    assert_eq!(
        rewriter.push(br#"{"a":1,"href":"https://clo"#).unwrap(),
        br#"{"a":1,"href":""#
    );
    assert_eq!(rewriter.push(b"x").unwrap(), b"https://clox");
    assert!(rewriter.push(br#"","b":"held back: nothing"#).is_none());
}

/// The plain way: no key and no link is whole in a piece of one byte, so each byte goes through the states.
fn bytewise(bytes: &[u8]) -> Vec<u8> {
    rewrite(&bytes.chunks(1).collect::<Vec<_>>())
}

#[test]
fn spellings_beside_each_other_change_alike_over_every_two_cuts() {
    const USUAL: &str = r#""href":"https://cloud.mongodb.com/api/x""#;
    for other in [
        USUAL,
        r#""href" : "https://cloud.mongodb.com/api/x""#,
        r#""href":"https:\/\/cloud.mongodb.com/api/""#,
        r#""hr\u0065f":"https://cloud.mongodb.com/api/""#,
        r#""a\u0065f":"https://cloud.mongodb.com:443/api/""#,
        r#""href":"HTTPS://cloud.mongodb.com//api/""#,
        r#""\"href":"https://cloud.mongodb.com/api/x""#,
        r#""href":"https://cloud.mongodb.com.evil/api/""#,
        r#""href":"https://cloud.mongodb.com/"#,
    ] {
        let text = [USUAL, other, USUAL].join(",");
        let bytes = text.as_bytes();
        let expected = bytewise(bytes);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(rewrite(&pieces), expected, "{other}, cut at {first} and {second}");
            }
        }
    }
}

/// Text made of what matters to the scanner.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(":".to_owned()),
        Just(" ".to_owned()),
        Just("\"href\":\"".to_owned()),
        Just("\"\\u0068ref\" : \"".to_owned()),
        Just("\"href\":\"https://cloud.mongodb.com/api/".to_owned()),
        Just("\"href\":\"https://cloud.mongodb.com:443//api/".to_owned()),
        Just("https://cloud.mongodb.com".to_owned()),
        Just("https:\\/\\/cloud.mongodb.com".to_owned()),
        Just(":443".to_owned()),
        Just("/api/".to_owned()),
        Just("\\/\\u002fapi\\/".to_owned()),
        Just("\\u".to_owned()),
        Just("002f".to_owned()),
        Just(",".to_owned()),
        Just("{".to_owned()),
        "[a-z0-9é]{0,4}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn the_borders_of_pieces_do_not_matter(text in text(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        let expected = bytewise(bytes);
        prop_assert_eq!(&rewrite(&pieces), &expected);
        prop_assert_eq!(&rewrite(&[bytes]), &expected);
    }

    #[test]
    fn wherever_a_text_is_cut_in_two_the_same_comes_out(text in text()) {
        let bytes = text.as_bytes();
        let expected = bytewise(bytes);
        for cut in 0..=bytes.len() {
            prop_assert_eq!(&rewrite(&[&bytes[..cut], &bytes[cut..]]), &expected);
        }
    }

    #[test]
    fn bytes_without_the_origin_pass_as_they_are(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(rewrite(&[&bytes]), bytes);
    }

    /// An independent reading: parse, change `href` strings, compare the documents.
    #[test]
    fn documents_mean_what_they_meant_but_for_links(value in document()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let rewritten: serde_json::Value = serde_json::from_str(&whole(&text)).unwrap();
        let mut expected = value;
        change(&mut expected);
        prop_assert_eq!(rewritten, expected);
    }
}

fn change(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(change),
        serde_json::Value::Object(members) => {
            for (key, member) in members {
                match member {
                    serde_json::Value::String(text) if key == "href" => {
                        for prefix in ["https://cloud.mongodb.com/api/", "https://cloud.mongodb.com//api/"] {
                            if text.starts_with(prefix) {
                                *text = text.replacen("https://cloud.mongodb.com", CLIENT, 1);
                                break;
                            }
                        }
                    }
                    other => change(other),
                }
            }
        }
        _ => {}
    }
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    let url = prop_oneof![
        Just("https://cloud.mongodb.com/api/atlas/v2/groups?a=b".to_owned()),
        Just("https://cloud.mongodb.com//api/atlas".to_owned()),
        Just("https://cloud.mongodb.com/v2".to_owned()),
        Just("href".to_owned()),
        ".{0,12}",
    ];
    let key = prop_oneof![Just("href".to_owned()), Just("rel".to_owned()), ".{0,6}"];
    let leaf = prop_oneof![
        url.prop_map(serde_json::Value::String),
        any::<i64>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

use super::*;
use crate::root::tests::Fixture;

#[tokio::test]
async fn without_a_server() {
    let root = Fixture::new(&[("/etc/hosts", b"192.0.2.7 box\n2001:db8::7 box\n")]);
    let it = Resolver::alone(&root);
    for (host, found) in [
        ("192.0.2.7", &["192.0.2.7:22"][..]),
        ("2001:db8::7", &["[2001:db8::7]:22"]),
        ("[2001:db8::7]", &["[2001:db8::7]:22"]),
        ("fe80::1%lo", &["[fe80::1%1]:22"]),
        ("Box", &["192.0.2.7:22", "[2001:db8::7]:22"]),
        ("localhost", &["127.0.0.1:22", "[::1]:22"]),
    ] {
        let is: Vec<String> = it.resolve(host, 22).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(is, found, "{host}");
    }
    for nonsense in ["", ".", "a b", "[box]", "fe80::1%", "a..b", "192.0.2.7:22"] {
        assert_eq!(it.resolve(nonsense, 22).await, Err(ResolveError::NoName(nonsense.into())));
    }
}

#[test]
fn verdicts() {
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let of = |answers: [Answer; 2]| verdict(answers.into_iter()).map_err(|error| error.to_string());
    let (none, some) = (|| Answer::Addresses(vec![]), || Answer::Addresses(vec![address]));
    assert_eq!(of([none(), some()]), Ok(Some(vec![address])));
    assert_eq!(of([Answer::Refused(4), some()]), Ok(Some(vec![address])));
    assert_eq!(of([Answer::Refused(2), none()]), Err("it refuses to say (code 2)".into()));
    assert_eq!(of([none(), none()]), Ok(Some(vec![])));
    assert_eq!(of([Answer::NoSuchName, Answer::NoSuchName]), Ok(None));
}

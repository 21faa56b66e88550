//! https, against servers of rustls with certificates of openssl.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::common::Machine;
use crate::server::{OK, Server};
use crate::{Question, start, until_failed, until_sent};

/// Runs openssl; what it prints.
fn openssl(directory: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `ca.pem`; `good`, which it has signed for push.example; `other`, for another name; `old`, which has expired; and
/// `alone`, which nobody has signed.
fn certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "alone"] {
        openssl(directory, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 3650 -subj /CN={name}"));
    }
    std::fs::write(directory.join("ca.conf"), AUTHORITY).unwrap();
    std::fs::write(directory.join("index"), "").unwrap();
    for (name, host, until) in [
        ("good", "push.example", "20491231"),
        ("other", "other.example", "20491231"),
        ("old", "push.example", "20200102"),
    ] {
        let subject = format!("-subj /CN={name} -addext subjectAltName=DNS:{host}");
        openssl(directory, &format!("req {key} -keyout {name}.key -out {name}.request {subject}"));
        let times = format!("-startdate 20200101000000Z -enddate {until}000000Z");
        openssl(directory, &format!("ca -batch -notext -config ca.conf -in {name}.request -out {name}.pem {times}"));
    }
}

/// For `openssl ca`, the only command that gives a certificate a time of one's own in all versions.
const AUTHORITY: &str = "[ca]\ndefault_ca = it\n[it]\ncertificate = ca.pem\nprivate_key = ca.key\nnew_certs_dir = .\n\
    database = index\nrand_serial = yes\ndefault_md = sha256\npolicy = any\ncopy_extensions = copy\n[any]\n\
    commonName = supplied\n";

fn server(directory: &Path, name: &str) -> Server {
    let certificate = CertificateDer::from_pem_file(directory.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key"))).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    Server::start_with(&[OK], move |mut stream: TcpStream| {
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?; // a client that refuses us is what some tests want
        }
        Some(StreamOwned::new(connection, stream))
    })
}

fn entry(server: &Server, host: &str, trust: &str) -> String {
    let port = server.port;
    format!("[[notify]]\nurl = \"https://{host}:{port}/secret\"\nkind = \"ntfy\"\nafter = 0\n{trust}\n")
}

#[test]
fn only_the_right_server_is_told() {
    let mut machine = Machine::new("tls");
    let directory = machine.root.clone();
    certificates(&directory);
    let [good, other, old, alone] = ["good", "other", "old", "alone"].map(|name| server(&directory, name));
    let ca = std::fs::read_to_string(directory.join("ca.pem")).unwrap();
    machine.write("etc/ssl/certs/ca-certificates.crt", &ca);
    machine.write("etc/own.pem", &std::fs::read_to_string(directory.join("alone.pem")).unwrap());
    machine.write("etc/hosts", "127.0.0.1 push.example\n");
    let fingerprint = openssl(&directory, "x509 -in alone.pem -noout -fingerprint -sha256");
    let fingerprint = fingerprint.trim().split('=').next_back().unwrap();
    openssl(&directory, "pkey -in alone.key -pubout -outform DER -out alone.public");
    let key = openssl(&directory, "dgst -sha256 -r alone.public");
    let key = key.split(' ').next().unwrap();
    let entries = [
        entry(&good, "push.example", ""),
        entry(&alone, "127.0.0.1", &format!("pin = \"{fingerprint}\"")),
        entry(&alone, "127.0.0.1", &format!("pin = \"{key}\"")),
        entry(&other, "push.example", ""),
        entry(&old, "push.example", ""),
        entry(&alone, "push.example", ""),
        entry(&good, "push.example", "ca = \"/etc/own.pem\""),
        entry(&good, "push.example", &format!("pin = \"{key}\"")),
    ];
    let port = machine.port;
    machine.write(
        "etc/vestibule/config.toml",
        &format!("port = {port}\nnetwork = false\nlogin-seconds = 60\n{}", entries.concat()),
    );
    let check = machine.vestibule(&["check"]);
    assert!(check.status.success(), "{check:?}");
    let files = String::from_utf8(machine.vestibule(&["check", "--files"]).stdout).unwrap();
    for file in ["/etc/ssl/certs/ca-certificates.crt", "/etc/own.pem"] {
        assert!(files.contains(&format!("\t{file}\n")), "{files}");
    }
    start(&mut machine);
    let _question = Question::ask(&machine);
    for index in 0..3 {
        until_sent(&machine, index, 1);
    }
    for (index, problem) in [
        (3, "certificate not valid for name"),
        (4, "certificate expired"),
        (5, "invalid peer certificate"),
        (6, "UnknownIssuer"),
        (7, "neither its certificate nor its key is the pinned one"),
    ] {
        until_failed(&machine, index, problem);
    }
    let requests: Vec<String> = [&good, &other, &old, &alone].into_iter().flat_map(Server::requests).collect();
    assert_eq!(requests.len(), 3, "who is refused gets no request: {requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("POST /secret HTTP/1.1\r\n")), "{requests:?}");
    assert!(!machine.log().contains("secret"), "{}", machine.log());
}

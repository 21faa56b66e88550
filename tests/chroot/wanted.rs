//! What is wanted and doesn't run is said, by `start` and by `status`.

use crate::lab::on_own_machine;
use crate::trees;

#[test]
fn up_but_not_wholly() {
    let tree = trees::find("busybox");
    on_own_machine("wanted::up_but_not_wholly", |lab| {
        trees::put(&lab, &tree);
        let service = |name: &str, user: &str| {
            format!("[[service]]\nname = \"{name}\"\nuser = \"{user}\"\ncommand = [\"/bin/sleep\", \"1000\"]\n")
        };
        let define = |services: &[String]| {
            lab.define("x", &["ssh = false\nlog.file = \"/log\"\n", &services.concat()].concat());
        };

        define(&[service("good", "root"), service("bad", "nobody-there")]);
        let started = lab.well(&["start", "x"]);
        assert_eq!(started.out, "x is up, but not wholly\n");
        assert!(started.err.contains("service bad can't be started") && started.err.contains("nobody-there"));
        assert_eq!(lab.chroot(&["status", "x"]).status, Some(3));

        define(&[service("good", "root")]);
        assert_eq!(lab.well(&["restart", "x"]).out, "x is up again\n");
        lab.well(&["status", "x"]);
        assert_eq!(lab.well(&["start", "x"]).out, "x is up already\n");

        define(&[service("good", "root"), service("later", "root")]);
        let told = "not started, as it was defined later: later; vestibule chroot restart";
        let status = lab.chroot(&["status", "x"]);
        assert!(status.status == Some(3) && status.out.contains(told), "{status:?}");
        let started = lab.well(&["start", "x"]);
        assert!(started.out == "x is up already, but not wholly\n" && started.err.contains(told), "{started:?}");
        assert_eq!(lab.well(&["restart", "x"]).out, "x is up again\n");
        lab.well(&["status", "x"]);
        lab.well(&["stop", "x"]);
    });
}

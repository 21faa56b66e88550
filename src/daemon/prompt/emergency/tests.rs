use super::*;
use crate::root::tests::Fixture;

/// A process of a fixture: number, parent, command line, where its standard input leads.
type Row<'a> = (i32, i32, &'a str, &'a str);

fn with(processes: &[Row]) -> Fixture {
    let fixture = Fixture::new(&[("/proc/cmdline", b"root=/dev/mapper/root quiet")]);
    for (pid, parent, line, input) in processes {
        fixture.put(&format!("/proc/{pid}/cmdline"), format!("{}\0", line.replace(' ', "\0")).as_bytes());
        fixture.put(&format!("/proc/{pid}/stat"), format!("{pid} (a) b) S {parent} 7 7").as_bytes());
        std::fs::create_dir_all(fixture.join(format!("/proc/{pid}/fd"))).unwrap();
        std::os::unix::fs::symlink(input, fixture.join(format!("/proc/{pid}/fd/0"))).unwrap();
    }
    fixture
}

fn with_unit(group: &str, processes: &[Row]) -> Fixture {
    let fixture = with(processes);
    let members: String = processes.iter().map(|(pid, ..)| format!("{pid}\n")).collect();
    fixture.put(&format!("{group}/cgroup.procs"), members.as_bytes());
    std::fs::create_dir_all(fixture.join("/run/systemd/system")).unwrap();
    fixture
}

const UNIFIED: &str = "/sys/fs/cgroup/system.slice/emergency.service";

/// The unit's control group, what runs in it, and what of that is ended, and how.
type UnitCase<'a> = (&'a str, &'a [Row<'a>], &'a [(i32, Role)]);

#[test]
fn with_systemd_the_unit_tells() {
    use Role::*;
    #[rustfmt::skip]
    let cases: [UnitCase; 8] = [
        // The report is being written: there is nothing to end yet.
        (UNIFIED, &[(7, 1, "/bin/sh /bin/dracut-emergency", "/dev/console"), (8, 7, "/bin/sh /sbin/rdsosreport", "/dev/console")], &[]),
        (UNIFIED, &[(7, 1, "sulogin -e", "/dev/console")], &[(7, Login)]),
        // sulogin has become the shell, in which somebody runs a program.
        (UNIFIED, &[(7, 1, "sh", "/dev/ttyS0"), (8, 7, "less /run/initramfs/rdsosreport.txt", "/dev/ttyS0")], &[(7, Shell)]),
        (UNIFIED, &[(7, 1, "/usr/lib/systemd/systemd-sulogin-shell emergency", "/dev/console"), (8, 7, "/usr/sbin/sulogin --force", "/dev/console")], &[(8, Login)]),
        // Two consoles: a shell on one, the question on the other.
        (UNIFIED, &[(7, 1, "sulogin", "/dev/console"), (8, 7, "-bash", "/dev/tty1"), (9, 7, "sulogin", "/dev/ttyS0")], &[(8, Shell), (9, Login)]),
        ("/sys/fs/cgroup/system.slice/dracut-emergency.service", &[(7, 1, "sulogin -e", "/dev/console")], &[(7, Login)]),
        ("/sys/fs/cgroup/systemd/system.slice/rescue.service", &[(7, 1, "sh", "/dev/tty1")], &[(7, Shell)]),
        ("/sys/fs/cgroup/unified/system.slice/emergency.service", &[(7, 1, "sh", "/dev/hvc0")], &[(7, Shell)]),
    ];
    for (group, processes, ended) in cases {
        let hold = look(&with_unit(group, processes)).expect(group);
        assert!(group.ends_with(&hold.by), "{hold:?}");
        assert_eq!((hold.waiting, hold.kept), (ended.to_vec(), None), "{processes:?}");
    }
}

#[test]
fn other_units_hold_nothing() {
    let shell = [(7, 1, "sh", "/dev/tty9")];
    assert_eq!(look(&with_unit("/sys/fs/cgroup/system.slice/debug-shell.service", &shell)), None);
    assert_eq!(look(&with_unit(UNIFIED, &[])), None, "a unit that is stopping");
    // What holds a boot without systemd is no matter here.
    let fixture = with(&[(1, 0, "/init", "/dev/null"), (7, 1, "/bin/sh -i -l", "/dev/ttyS0")]);
    std::fs::create_dir_all(fixture.join("/run/systemd/system")).unwrap();
    assert_eq!(look(&fixture), None);
}

/// Rows: what runs beside PID 1, and which process of it holds the boot.
#[test]
fn without_systemd_it_is_the_shell_of_inits_scripts() {
    #[rustfmt::skip]
    let cases: [(&[Row], Option<i32>); 11] = [
        // dracut 059
        (&[(7, 1, "/bin/sh -i -l", "/dev/ttyS0")], Some(7)),
        // initramfs-tools 0.142; from init itself, and from a script that init has started
        (&[(7, 1, "sh -i", "/dev/tty1")], Some(7)),
        (&[(6, 1, "/bin/sh /scripts/init-premount/x", "/dev/console"), (7, 6, "sh -i", "/dev/tty1")], Some(7)),
        // mkinitcpio; its busybox is found by its own name, too
        (&[(7, 1, "/bin/sh -i", "/dev/console")], Some(7)),
        (&[(7, 1, "ash -i", "/dev/hvc0")], Some(7)),
        // It may not be told to end: the kernel would panic.
        (&[], None),
        (&[(7, 1, "/bin/sh /init", "/dev/console"), (8, 1, "sh -c x -i", "/dev/console")], None),
        // A session over the network, and what it started on the console.
        (&[(6, 1, "dropbear -s", "/dev/null"), (7, 6, "sh -i", "/dev/pts/0"), (8, 6, "sh -i", "/dev/tty1")], None),
        (&[(6, 1, "vestibule serve", "/dev/null"), (7, 6, "sh -i", "/dev/tty1")], None),
        (&[(7, 1, "sh -i", "/dev/null")], None),
        (&[(7, 1, "sh -i", "/dev/tty")], None),
    ];
    for (others, expected) in cases {
        let init: Row = (1, 0, "/bin/sh -i", "/dev/console");
        let found = look(&with(&[&[init], others].concat()));
        let expected = expected.map(|pid| vec![(pid, Role::Shell)]);
        assert_eq!(found.map(|hold| hold.waiting), expected, "{others:?}");
    }
}

/// Rows: kernel command line; whether it asks for the shell.
#[test]
fn a_shell_that_was_asked_for_stays() {
    for (line, asked) in [
        ("root=/dev/sda rd.shell rd.timeout=30", false),
        ("rd.emergency=reboot rd.debug panic=30", false),
        ("rd.break", true),
        ("rd.break=pre-mount", true),
        ("rdbreak", true),
        ("break=mount", true),
        ("break", true),
        ("rd.emergency", true),
        ("rd.rescue", true),
        ("rd.systemd.unit=emergency.target", true),
        ("rd.systemd.unit=initrd.target", false),
        // That one is for the real system.
        ("systemd.unit=emergency.target emergency single", false),
    ] {
        assert_eq!(wanted(&CommandLine::parse(line)), asked, "{line}");
        let fixture = with(&[(7, 1, "sh -i", "/dev/console")]);
        fixture.put("/proc/cmdline", line.as_bytes());
        let hold = look(&fixture).unwrap();
        assert_eq!((hold.kept.is_some(), hold.can_end()), (asked, !asked), "{line}");
    }
}

#[test]
fn mkinitcpio_needs_a_root_that_is_mounted() {
    let fixture = with(&[(7, 1, "sh -i", "/dev/console")]);
    fixture.put("/init_functions", b"");
    fixture.put("/proc/mounts", b"proc /proc proc rw 0 0\n");
    assert!(!look(&fixture).unwrap().can_end());
    for at in ["/new_root", "/sysroot"] {
        fixture.put("/proc/mounts", format!("proc /proc proc rw 0 0\n/dev/dm-0 {at} ext4 ro 0 0\n").as_bytes());
        assert!(look(&fixture).unwrap().can_end(), "{at}");
    }
}

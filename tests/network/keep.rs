//! A network that stays, and those who find it there: the real ones, in the client's namespace.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::{
    OPTIONS,
    lab::{DEADLINE, Lab, has_link_local, in_namespace, reaches, sh, snapshot, until},
    servers::program,
};

/// Every address that is not of the link, with its prefix; and how many.
fn addresses() -> String {
    sh("ip -o address show dev eth0 scope global | awk '{ print $4, $6 }'")
}

/// A real system that has just begun: `/run` is that of the initramfs, and there is no udev to wait for.
fn on_the_real_system(lab: &Lab, script: &str) -> Command {
    let line =
        format!("mount --bind {}/run /run; mount -o remount,ro,bind /sys; {script}", lab.root().join("/").display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &line]);
    command
}

fn networkd(lab: &mut Lab) {
    // It becomes a user of its own.
    let script =
        "mkdir -p /run/systemd/netif/links /run/systemd/netif/leases; chmod 755 /run; chmod -R a+rwX /run/systemd
        exec /usr/lib/systemd/systemd-networkd";
    let mut command = on_the_real_system(lab, script);
    lab.start_beside(&mut command);
}

/// What networkd says of eth0.
fn networkd_says(lab: &Lab) -> String {
    let index = sh("cat /sys/class/net/eth0/ifindex");
    let state = lab.read(&format!("run/systemd/netif/links/{}", index.trim())).unwrap_or_default();
    state.lines().find_map(|line| line.strip_prefix("ADMIN_STATE=")).unwrap_or("nothing").to_owned()
}

#[test]
fn networkd_goes_on_with_a_lease() {
    in_namespace("keep::networkd_goes_on_with_a_lease", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let line = "ip=eth0:dhcp rd.route=203.0.113.0/24:192.0.2.1 nameserver=192.0.2.99";
        let mut it = lab.start_with(line, |config| config.keep = true);
        it.until_address("eth0", "192.0.2.10").await;
        until(async || sh("ip route").contains("203.0.113.0")).await;
        it.net.undo().await;
        let before = addresses();
        networkd(&mut lab);
        lab.until_served("DHCPACK", 2).await;
        until(async || networkd_says(&lab) == "configured").await;
        assert_eq!(addresses(), before, "the same one, once");
        assert!(sh("ip route show proto dhcp").contains("default via 192.0.2.1"), "networkd's own");
        assert!(sh("ip route show proto static").contains("203.0.113.0/24 via 192.0.2.1"), "networkd's own");
        let index = sh("cat /sys/class/net/eth0/ifindex");
        let state = lab.read(&format!("run/systemd/netif/links/{}", index.trim())).unwrap();
        assert!(state.contains("DNS=192.0.2.99"), "{state}");
    });
}

#[test]
fn networkd_leaves_fixed_addresses_as_they_are() {
    in_namespace("keep::networkd_leaves_fixed_addresses_as_they_are", async |mut lab| {
        lab.cable("eth0");
        let line = "ip=192.0.2.7::192.0.2.1:24::eth0:none ip=[2001:db8::7]:::64::eth0:none";
        let mut it = lab.start_with(line, |config| config.keep = true);
        it.until_address("eth0", "192.0.2.7").await;
        it.until_address("eth0", "2001:db8::7").await;
        it.net.undo().await;
        let before = addresses();
        networkd(&mut lab);
        until(async || networkd_says(&lab) == "configured").await;
        assert_eq!(addresses(), before);
        assert!(sh("ip route show proto static").contains("default via 192.0.2.1"), "networkd's own");
        assert!(reaches("192.0.2.1"));
    });
}

#[test]
fn networkd_goes_on_with_a_lease_of_dhcpv6() {
    in_namespace("keep::networkd_goes_on_with_a_lease_of_dhcpv6", async |mut lab| {
        lab.cable("eth0");
        lab.advertise("2001:db8::100,2001:db8::1ff,64,2m");
        let mut it = lab.start_with("ip=eth0:dhcp6", |config| config.keep = true);
        it.until_address("eth0", "2001:db8::1").await;
        it.net.undo().await;
        let before = addresses();
        networkd(&mut lab);
        until(async || networkd_says(&lab) == "configured").await;
        assert_eq!(addresses(), before);
    });
}

/// NetworkManager with its bus, whose state and profiles of the administrator are in the lab.
async fn network_manager(lab: &mut Lab) {
    // A real system begins later than the kernel's check of that address ends; before, NetworkManager takes what it finds for
    // somebody else's.
    has_link_local("eth0").await;
    let all = ["method_call", "method_return", "error", "signal"];
    let all = all.map(|it| format!(r#"<allow send_type="{it}"/><allow receive_type="{it}"/>"#)).concat();
    let bus = format!(
        r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
        <policy context="default"><allow user="*"/><allow own="*"/>{all}</policy></busconfig>"#
    );
    lab.file("run/dbus/bus.conf", &bus);
    let place = lab.root().join("/nm").display().to_string();
    let wanted = format!(
        "[main]\nplugins=keyfile\ndhcp=internal\nauth-polkit=false\ndns=none\nrc-manager=unmanaged\n\
         [keyfile]\npath={place}/profiles\n"
    );
    lab.file("nm/main.conf", &wanted);
    let manager = program("NetworkManager");
    let libraries = manager.get_envs().next().unwrap().1.unwrap().to_str().unwrap().to_owned();
    let script = format!(
        "mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/NetworkManager {place}/profiles
         {bus} --config-file=/run/dbus/bus.conf --nofork --nopidfile --print-address=1 > {place}/bus &
         until [ -s {place}/bus ]; do sleep 0.05; done
         export LD_LIBRARY_PATH={libraries}
         {manager} --debug --config={place}/main.conf --config-dir={place}/none --system-config-dir={place}/none \
            --intern-config={place}/intern.conf --state-file={place}/state --pid-file={place}/pid > {place}/log 2>&1 &
         wait",
        bus = program("dbus-daemon").get_program().display(),
        manager = manager.get_program().display(),
    );
    let mut command = on_the_real_system(lab, &script);
    lab.start_beside(&mut command);
}

/// What NetworkManager says of eth0: the lines of its state file.
fn network_manager_says(lab: &Lab) -> String {
    let index = sh("cat /sys/class/net/eth0/ifindex");
    lab.read(&format!("run/NetworkManager/devices/{}", index.trim())).unwrap_or_default()
}

async fn until_network_manager_says(lab: &Lab, wanted: &str) {
    let deadline = Instant::now() + 2 * DEADLINE;
    while !network_manager_says(lab).contains(wanted) {
        assert!(Instant::now() < deadline, "no {wanted}; it says:\n{}", lab.read("nm/log").unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const OURS: &str = "connection-uuid=76657374-6962-8756-8c65-";

#[test]
fn network_manager_goes_on_with_a_lease() {
    in_namespace("keep::network_manager_goes_on_with_a_lease", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let mut it = lab.start_with("ip=eth0:dhcp", |config| config.keep = true);
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        let before = addresses();
        network_manager(&mut lab).await;
        until_network_manager_says(&lab, "dhcp4.ip_address=192.0.2.10").await;
        let says = network_manager_says(&lab);
        assert!(says.contains(OURS), "{says}");
        assert_eq!(addresses(), before, "the same one, once");
        assert!(sh("ip route show proto dhcp").contains("default via 192.0.2.1"), "NetworkManager's own");
    });
}

#[test]
fn network_manager_leaves_fixed_addresses_as_they_are() {
    in_namespace("keep::network_manager_leaves_fixed_addresses_as_they_are", async |mut lab| {
        lab.cable("eth0");
        let line =
            "ip=192.0.2.7::192.0.2.1:24::eth0:none ip=[2001:db8::7]:::64::eth0:none rd.route=203.0.113.0/24:192.0.2.1";
        let mut it = lab.start_with(line, |config| config.keep = true);
        it.until_address("eth0", "192.0.2.7").await;
        it.until_address("eth0", "2001:db8::7").await;
        it.net.undo().await;
        let before = addresses();
        network_manager(&mut lab).await;
        until_network_manager_says(&lab, "connection-uuid=").await;
        until(async || lab.read("nm/log").unwrap_or_default().contains("startup complete")).await;
        assert_eq!(addresses(), before);
        assert!(
            sh("ip route").contains("default via 192.0.2.1") && sh("ip route").contains("203.0.113.0/24 via 192.0.2.1")
        );
        assert!(reaches("192.0.2.1"));
    });
}

#[test]
fn network_manager_prefers_a_profile_of_the_administrator() {
    in_namespace("keep::network_manager_prefers_a_profile_of_the_administrator", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        let mut it = lab.start_with("ip=eth0:dhcp", |config| config.keep = true);
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        let profile = "[connection]\nid=theirs\nuuid=11111111-2222-4333-8444-555555555555\ntype=ethernet\n\
            interface-name=eth0\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\n";
        lab.file("nm/profiles/theirs.nmconnection", profile);
        sh(&format!("chmod 600 {}", lab.root().join("/nm/profiles/theirs.nmconnection").display()));
        network_manager(&mut lab).await;
        let theirs = "connection-uuid=11111111-2222-4333-8444-555555555555";
        until_network_manager_says(&lab, theirs).await;
    });
}

#[test]
fn scripts_of_initramfs_tools_find_their_file() {
    in_namespace("keep::scripts_of_initramfs_tools_find_their_file", async |mut lab| {
        lab.cable("eth0");
        lab.serve(
            100,
            &["--dhcp-option=option:router,192.0.2.1", "--dhcp-option=option:domain-search,it's.example,b.example"],
        );
        let line = "ip=eth0:dhcp nameserver=192.0.2.99";
        let mut it = lab.start_with(line, |config| config.keep = true);
        it.until_address("eth0", "192.0.2.10").await;
        it.net.undo().await;
        let functions = program("mkinitramfs"); // its directory's neighbour
        let functions = functions
            .get_program()
            .to_str()
            .unwrap()
            .replace("sbin/mkinitramfs", "share/initramfs-tools/scripts/functions");
        // As a script that needs the network has it (/scripts/nfs, /scripts/local-top/…).
        let script = format!(
            ". {functions}; DEVICE= IP=dhcp quiet=y; configure_networking > /dev/null
             echo $DEVICE $PROTO $IPV4ADDR $IPV4NETMASK $IPV4BROADCAST $IPV4GATEWAY $IPV4DNS0 $DOMAINSEARCH"
        );
        let found = on_the_real_system(&lab, &script).output().unwrap();
        let (out, err) = (String::from_utf8(found.stdout).unwrap(), String::from_utf8(found.stderr).unwrap());
        let address = addresses();
        let address = address.split('/').next().unwrap();
        let wanted = format!("eth0 dhcp {address} 255.255.255.0 192.0.2.255 192.0.2.1 192.0.2.99 b.example\n");
        assert_eq!(out, wanted, "{err}");
    });
}

#[test]
fn what_networkd_configures_in_the_initramfs_is_watched() {
    in_namespace("keep::what_networkd_configures_in_the_initramfs_is_watched", async |mut lab| {
        lab.cable("eth0");
        lab.serve(100, &OPTIONS);
        lab.file("usr/lib/systemd/systemd-networkd", "");
        let wants = lab.root().join("/etc/systemd/system/sockets.target.wants");
        sh(&format!("mkdir -p {0}; ln -s ../systemd-networkd.socket {0}", wants.display()));
        let mut it = lab.start("ip=dhcp");
        let waits = "waiting whether systemd-networkd configures it";
        it.until("eth0", "waited", |link| link.note.as_deref() == Some(waits)).await;
        lab.file("run/systemd/network/eth0.network", "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n");
        networkd(&mut lab);
        let link = it.until_address("eth0", "192.0.2.10").await;
        assert_eq!(link.configured_by.as_deref(), Some("system"));
        until(async || networkd_says(&lab) == "configured").await;
        let before = snapshot();
        assert_eq!((lab.count_served("DHCPDISCOVER"), lab.count_served("DHCPACK")), (1, 1), "networkd's alone");
        it.net.undo().await;
        assert_eq!(snapshot(), before);
    });
}

//! Real servers beside dnsmasq, at the server's end of the cable. `scripts/deps` unpacks them into target/servers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::lab::{Lab, until};

/// A program of target/servers, or else of the system.
pub fn program(name: &str) -> Command {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers");
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    let places = ["usr/sbin", "sbin", "usr/bin"].map(|place| unpacked.join(place)).into_iter().chain(system);
    let found = places.map(|place| place.join(name)).find(|path| path.exists());
    let mut command = Command::new(found.unwrap_or_else(|| panic!("{name} is missing. Type: make deps")));
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", unpacked.join("usr/lib").join(architecture));
    command
}

/// Where a server keeps its files; it is gone with the lab.
fn file(lab: &Lab, name: &str, contents: &str) -> PathBuf {
    lab.file(name, contents);
    lab.root().join(name)
}

/// ISC dhcpd: 192.0.2.30 to 39, with these statements, and those of the subnet.
pub async fn dhcpd(lab: &mut Lab, statements: &str, subnet: &str) {
    let configuration = format!(
        "authoritative;\nping-check false;\n{statements}\n\
         subnet 192.0.2.0 netmask 255.255.255.0 {{ range 192.0.2.30 192.0.2.39; {subnet} }}\n"
    );
    start_dhcpd(lab, "-4", &configuration).await;
}

/// The same for DHCPv6: 2001:db8::30 to 39.
pub async fn dhcpd6(lab: &mut Lab, statements: &str) {
    let configuration =
        format!("authoritative;\n{statements}\nsubnet6 2001:db8::/64 {{ range6 2001:db8::30 2001:db8::39; }}\n");
    start_dhcpd(lab, "-6", &configuration).await;
}

async fn start_dhcpd(lab: &mut Lab, family: &str, configuration: &str) {
    let configuration = file(lab, "dhcpd.conf", configuration);
    let leases = lab.root().join("dhcpd.leases");
    if !leases.exists() {
        fs::write(&leases, "").unwrap();
    }
    let mut dhcpd = program("dhcpd");
    dhcpd.args([family, "-f", "-d", "--no-pid", "-cf"]).arg(configuration).arg("-lf").arg(leases).arg("srv0");
    let before = lab.count_served("Server starting service.");
    lab.start_server(&mut dhcpd);
    lab.until_served("Server starting service.", before + 1).await;
}

/// Kea for IPv4: 192.0.2.40 to 49, a lease of 60 s renewed after 2 s; `options` as JSON.
pub async fn kea4(lab: &mut Lab, options: &str) {
    let subnet = format!(
        r#""subnet4": [{{ "subnet": "192.0.2.0/24", "pools": [{{ "pool": "192.0.2.40-192.0.2.49" }}],
            "option-data": [{options}] }}], "authoritative": true, "calculate-tee-times": false"#
    );
    start_kea(lab, "kea-dhcp4", "Dhcp4", &subnet, "DHCP4_STARTED").await;
}

/// Kea for IPv6: 2001:db8::40 to 49, renewed after 2 s.
pub async fn kea6(lab: &mut Lab, more: &str) {
    let subnet = format!(
        r#""server-id": {{ "type": "LL", "persist": false }},
           "subnet6": [{{ "subnet": "2001:db8::/64", "pools": [{{ "pool": "2001:db8::40-2001:db8::49" }}],
            "interface": "srv0", "preferred-lifetime": 50 {more} }}]"#
    );
    start_kea(lab, "kea-dhcp6", "Dhcp6", &subnet, "DHCP6_STARTED").await;
}

/// The client's end may be down, and so srv0 without carrier: Kea tries its sockets again until it comes.
async fn start_kea(lab: &mut Lab, name: &str, section: &str, subnet: &str, started: &str) {
    let configuration = format!(
        r#"{{ "{section}": {{ "interfaces-config": {{ "interfaces": ["srv0"],
            "service-sockets-max-retries": 300, "service-sockets-retry-wait-time": 100 }},
            "lease-database": {{ "type": "memfile", "persist": false }},
            "valid-lifetime": 60, "renew-timer": 2, "rebind-timer": 4, {subnet},
            "loggers": [{{ "name": "{name}", "severity": "INFO", "output_options": [{{ "output": "stdout" }}] }}] }} }}"#
    );
    let configuration = file(lab, &format!("{name}.json"), &configuration);
    let mut kea = program(name);
    let place = configuration.parent().unwrap();
    kea.env("KEA_PIDFILE_DIR", place).env("KEA_LOCKFILE_DIR", place).arg("-c").arg(&configuration);
    let before = lab.count_served(started);
    lab.start_server(&mut kea);
    lab.until_served(started, before + 1).await;
}

/// A relay at 192.0.2.1, and dnsmasq behind it, with these options, in a namespace that goes with its process.
pub fn relay(lab: &mut Lab, options: &[&str]) {
    let common = "dnsmasq --no-daemon --port=0 --conf-file=/dev/null --user=root --pid-file=";
    let served = format!(
        "{common} --no-ping --dhcp-authoritative --dhcp-leasefile={} \
         --dhcp-range=192.0.2.100,192.0.2.109,255.255.255.0,2m {}",
        lab.root().join("leases").display(),
        options.join(" ")
    );
    let server = format!(
        "until ip link set far1 up 2> /dev/null; do sleep 0.05; done
         ip address add 198.51.100.2/24 dev far1; ip route add 192.0.2.0/24 via 198.51.100.1; exec {served}"
    );
    lab.in_server(
        "sh -ec 'ip link add far0 type veth peer name far1; ip link set far0 up
        ip address add 198.51.100.1/24 dev far0; echo 1 > /proc/sys/net/ipv4/ip_forward'",
    );
    let process = lab.start_server(Command::new("unshare").args(["--net", "sh", "-ec", &server]));
    lab.in_server(&format!(
        "sh -ec 'until [ \"$(readlink /proc/{process}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.05; done
         ip link set far1 netns {process}'"
    ));
    let mut relay = Command::new("sh");
    lab.start_server(relay.args(["-c", &format!("exec {common} --dhcp-relay=192.0.2.1,198.51.100.2")]));
}

/// radvd for 2001:db8::/64, often; `interface` are more statements.
pub fn radvd(lab: &mut Lab, interface: &str) {
    start_radvd(lab, &format!("MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n{interface}"));
}

/// The same, and nobody hears of it who does not ask.
pub async fn radvd_that_waits(lab: &mut Lab, interface: &str) {
    start_radvd(lab, &format!("UnicastOnly on;\n{interface}"));
    lab.until_served("timer_handler called for srv0", 1).await;
}

fn start_radvd(lab: &mut Lab, interface: &str) {
    let configuration = file(
        lab,
        "radvd.conf",
        &format!(
            "interface srv0 {{ AdvSendAdvert on; {interface}\n\
             prefix 2001:db8::/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
        ),
    );
    let mut radvd = program("radvd");
    radvd.args(["--nodaemon", "--logmethod=stderr", "--debug=2", "--username=root", "--pidfile"]);
    radvd.arg(lab.root().join("radvd.pid")).arg("--config").arg(configuration);
    lab.start_server(&mut radvd);
}

/// A rule of nftables for what comes in (`ingress`) or goes out (`egress`) at the server's end.
pub fn filter(lab: &Lab, hook: &str, rule: &str) {
    nft(
        lab,
        &format!(
            "add table netdev lab; add chain netdev lab {hook} {{ type filter hook {hook} device srv0 priority 0; }}; \
             add rule netdev lab {hook} {rule}"
        ),
    );
}

/// How many packets the rules with a counter have seen.
pub fn filtered(lab: &Lab) -> usize {
    let shown = nft(lab, "list ruleset");
    let counts = shown.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

fn nft(lab: &Lab, rules: &str) -> String {
    let nft = program("nft");
    let libraries = nft.get_envs().next().unwrap().1.unwrap().to_str().unwrap().to_owned();
    let nft = nft.get_program().to_str().unwrap();
    lab.in_server(&format!("env LD_LIBRARY_PATH={libraries} {nft} '{rules}'"))
}

/// Three packets of ten get lost, each way.
pub fn lossy(lab: &Lab) {
    for hook in ["ingress", "egress"] {
        filter(lab, hook, "numgen random mod 10 < 3 drop");
    }
}

/// Waits for an interface's link-local address to be usable.
pub async fn link_local(lab: &Lab, interface: &str) {
    let shown = || lab.in_server(&format!("ip -6 address show dev {interface} scope link"));
    until(async || shown().contains("fe80::") && !shown().contains("tentative")).await;
}

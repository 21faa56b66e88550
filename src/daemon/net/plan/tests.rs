use super::{
    super::{
        dhcp::message::{self as dhcp, Message},
        dhcp6,
        owner::{Networkd, SYSTEM_GRACE, UDEV_GRACE},
        step::{Check, Route, Setting},
    },
    *,
};
use crate::config::cmdline::CommandLine;

mod conflict;
mod dad;
mod ipv6;
mod made;
mod others;
mod roles;
mod routers;
mod routes;

const SECOND: Duration = Duration::from_secs(1);

/// A plan, the time, and what the last event made it do, in short words.
struct Story {
    plan: Plan,
    now: Duration,
    question: Option<Message>,
    question6: Option<dhcp6::message::Message>,
    /// Whether ARP and questions to routers are shown.
    all: bool,
}

impl Story {
    fn new(command_line: &str) -> Self {
        let (config, problems) = NetworkConfig::parse(&CommandLine::parse(command_line));
        assert_eq!(problems, [""; 0]);
        Self { plan: Plan::new(config, None, 1), now: Duration::ZERO, question: None, question6: None, all: false }
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        let steps = self.plan.handle(self.now, event);
        steps.into_iter().map(|step| self.show(step)).filter(|text| !text.is_empty()).collect()
    }

    fn show(&mut self, step: Step) -> String {
        match step {
            Step::SetUp(index) => format!("up {index}"),
            Step::SetMtu { index, mtu, before } => format!("mtu {index} {before}→{mtu}"),
            Step::SetDown(index) => format!("down {index}"),
            Step::SetMac { index, mac, .. } => format!("mac {index} {:02x}", mac[5]),
            Step::Rename { index, name } => format!("rename {index} {name}"),
            Step::Set { setting: Setting::UseTempaddr, on: false, .. } => String::new(),
            Step::Set { index, setting, on } => format!("set {index} {setting:?} {on}"),
            Step::Make { name, link } => format!("make {name} {link:?}"),
            Step::Join { index, master } => format!("join {index} to {master}"),
            Step::Prefer { bond, slave } => format!("prefer {slave} in {bond}"),
            Step::AddAddress(it) => format!("+{}/{}", it.address, it.prefix),
            Step::RemoveAddress(it) => format!("-{}/{}", it.address, it.prefix),
            Step::AddRoute(it) => format!("+{}", route(&it)),
            Step::RemoveRoute(it) => format!("-{}", route(&it)),
            Step::Listen(index) => format!("listen {index}"),
            Step::ListenAddressed(index) => format!("listen-addressed {index}"),
            Step::Silence(index) => format!("silence {index}"),
            Step::Broadcast(index, message) => {
                let kind = message.message_type().unwrap();
                self.question = Some(message);
                format!("broadcast {index} {kind}")
            }
            Step::Send { index, to, message } => {
                let kind = message.message_type().unwrap();
                self.question = Some(message);
                format!("send {index} {kind} to {to}")
            }
            Step::Listen6(index) => format!("listen6 {index}"),
            Step::Silence6(index) => format!("silence6 {index}"),
            Step::Send6(index, message) => {
                let kind = message.kind;
                self.question6 = Some(message);
                format!("send6 {index} {kind}")
            }
            // Those that go with every address are in the tests of `conflict` and `dad`.
            Step::ListenArp { .. } | Step::SendArp(..) if !self.all => String::new(),
            Step::Solicit(..) if !self.all => String::new(),
            Step::Solicit(index, _) => format!("solicit {index}"),
            Step::ListenArp { index, address } => format!("listen-arp {index} {address}"),
            Step::SilenceArp(_) if !self.all => String::new(),
            Step::SilenceArp(index) => format!("silence-arp {index}"),
            Step::SendArp(index, it) if it.sender.is_unspecified() => format!("probe {index} {}", it.target),
            Step::SendArp(index, it) => format!("announce {index} {}", it.target),
            Step::Resolver { nameservers, search } if search.is_empty() => format!("resolver {nameservers:?}"),
            Step::Resolver { nameservers, search } => format!("resolver {nameservers:?} {search:?}"),
            Step::LeaveUp(index) => format!("leave-up {index}"),
            Step::LeaveAll(index) => format!("leave-all {index}"),
            Step::Forget(index) => format!("forget {index}"),
            Step::Log(text) => format!("“{text}”"),
        }
    }

    fn link(&mut self, seen: LinkSeen) -> Vec<String> {
        self.event(Event::Link(seen, hardware()))
    }

    /// Lets this much time pass, with a tick wherever one is wanted.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut did = Vec::new();
        while let Some(deadline) = self.plan.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            did.extend(self.event(Event::Tick));
        }
        self.now = end;
        did
    }

    /// A server's answer to the last question.
    fn answer(&mut self, kind: u8, options: &[(u8, &[u8])]) -> Vec<String> {
        let question = self.question.clone().expect("a question");
        let mut message = Message { reply: true, yours: [192, 0, 2, 7].into(), ..question };
        message.options = options.iter().map(|(code, value)| (*code, value.to_vec())).collect();
        message.options.insert(dhcp::MESSAGE_TYPE, vec![kind]);
        message.options.insert(dhcp::SERVER, vec![192, 0, 2, 1]);
        message.options.insert(dhcp::MASK, vec![255, 255, 255, 0]);
        message.options.insert(dhcp::LEASE_TIME, vec![0, 0, 0, 120]);
        self.event(Event::Message { index: 2, message })
    }

    /// With a lease on eth0.
    fn bound() -> Self {
        let mut story = Self::new("ip=dhcp");
        story.link(eth0(true, true));
        story.answer(dhcp::OFFER, &[]);
        let did = story.answer(dhcp::ACK, &[(dhcp::ROUTERS, &[192, 0, 2, 1]), (dhcp::NAMESERVERS, &[192, 0, 2, 53])]);
        assert_eq!(
            did,
            [
                "+192.0.2.7/24",
                "+0.0.0.0/0 via 192.0.2.1 metric 2050",
                "listen-addressed 2",
                "“eth0: 192.0.2.7/24 by DHCP from 192.0.2.1, gateway 192.0.2.1, lease 120 s”",
                "resolver [192.0.2.53]",
            ]
        );
        assert_eq!(story.event(Event::Address(address(2, "192.0.2.7"))), [""; 0], "our own");
        story
    }

    fn configured_by(&self) -> Option<String> {
        self.plan.links()[0].configured_by.clone()
    }
}

fn route(it: &Route) -> String {
    let gateway = it.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let onlink = if it.onlink { " onlink" } else { "" };
    format!("{}/{}{gateway}{onlink} metric {}", it.destination, it.prefix, it.metric)
}

fn eth0(up: bool, carrier: bool) -> LinkSeen {
    link(2, "eth0", up, carrier)
}

fn link(index: u32, name: &str, up: bool, carrier: bool) -> LinkSeen {
    let mac = Some([2, 0, 0, 0, 0, index as u8]);
    let (sort, master) = (Sort::Ethernet, None);
    LinkSeen { index, name: name.into(), mac, own_mac: mac, sort, master, up, carrier, mtu: 1500, router: None }
}

fn hardware() -> Facts {
    Facts { device: true, ..Facts::default() }
}

fn address(index: u32, text: &str) -> AddressSeen {
    AddressSeen {
        index,
        address: text.parse().unwrap(),
        prefix: 24,
        global: true,
        permanent: true,
        advertised: false,
        check: Check::Passed,
    }
}

#[test]
fn set_up_then_carrier_then_dhcp() {
    let mut story = Story::new("ip=dhcp");
    assert_eq!(story.link(eth0(false, false)), ["up 2"]);
    assert_eq!(story.link(eth0(true, false)), [""; 0]);
    assert_eq!(story.pass(SECOND * 3600), [""; 0], "nothing to do without a cable");
    assert_eq!(story.link(eth0(true, true)), ["listen 2", "broadcast 2 1"]);
    assert_eq!(story.pass(SECOND * 2), ["broadcast 2 1"]);
    assert_eq!(story.link(eth0(true, false)), ["silence 2"]);
    assert_eq!(story.link(eth0(true, true)), ["listen 2", "broadcast 2 1"]);
}

#[test]
fn which_interfaces() {
    let sort = |sort| LinkSeen { sort, ..eth0(false, false) };
    let radio = Facts { radio: true, ..hardware() };
    for (line, seen, facts, taken) in [
        ("ip=dhcp", sort(Sort::Ethernet), hardware(), true),
        ("ip=dhcp", sort(Sort::Ethernet), Facts::default(), false),
        ("ip=dhcp", sort(Sort::Ethernet), radio.clone(), false),
        ("ip=dhcp", sort(Sort::Veth), Facts::default(), true),
        ("ip=dhcp", sort(Sort::Made), hardware(), false),
        ("ip=dhcp", sort(Sort::Unfit), hardware(), false),
        ("ip=eth0:dhcp", sort(Sort::Made), Facts::default(), true),
        ("ip=eth0:dhcp", sort(Sort::Ethernet), radio, true),
        ("ip=eth0:dhcp", sort(Sort::Unfit), hardware(), false),
        ("ip=eth1:dhcp", sort(Sort::Ethernet), hardware(), false),
        ("ip=off", sort(Sort::Ethernet), hardware(), false),
    ] {
        let did = Story::new(line).event(Event::Link(seen.clone(), facts.clone()));
        assert_eq!(did == ["up 2"], taken, "{line} {seen:?} {facts:?}: {did:?}");
    }
}

#[test]
fn a_named_interface_has_its_own_argument() {
    let mut story = Story::new("ip=dhcp ip=192.0.2.7:::24::eth0:none");
    assert_eq!(story.link(link(3, "eth1", true, true)), ["listen 3", "broadcast 3 1"]);
    assert_eq!(story.link(eth0(true, true)), ["+192.0.2.7/24", "“eth0: 192.0.2.7/24, static”"]);
}

#[test]
fn udev_first_but_not_for_ever() {
    let pending = Facts { udev_pending: true, ..hardware() };
    let mut story = Story::new("ip=dhcp");
    assert_eq!(story.event(Event::Link(eth0(false, false), pending.clone())), [""; 0]);
    assert_eq!(story.plan.watched().count(), 1);
    assert_eq!(story.pass(UDEV_GRACE / 2), [""; 0]);
    assert_eq!(story.link(link(2, "ens3", false, false)), ["“ens3: renamed from eth0”", "up 2"]);
    let mut story = Story::new("ip=dhcp");
    story.event(Event::Link(eth0(false, false), pending));
    assert_eq!(story.pass(UDEV_GRACE), ["up 2"]);
}

#[test]
fn what_is_not_wanted_any_more_is_not_waited_for() {
    let pending = Facts { udev_pending: true, ..hardware() };
    let mut story = Story::new("ip=eth0:dhcp");
    story.event(Event::Link(eth0(false, false), pending.clone()));
    story.event(Event::Link(link(2, "enp1s0", false, false), pending.clone()));
    assert_eq!((story.plan.deadline(), story.plan.watched().count()), (None, 0), "renamed");
    let mut story = Story::new("ip=192.0.2.7:::24:::none");
    story.event(Event::Link(eth0(false, false), pending));
    story.link(link(3, "eth1", true, true));
    assert_eq!(story.pass(SECOND * 9), [""; 0]);
    assert_eq!(story.plan.deadline(), None, "another took the place");
    assert_eq!(story.event(Event::LinkGone(3)).len(), 3);
    assert_eq!(story.plan.watched().count(), 1, "the place is free again");
}

#[test]
fn a_configurator_that_is_expected_gets_time() {
    let expected = Facts { networkd: Networkd::Expected, ..hardware() };
    let mut story = Story::new("ip=dhcp");
    story.event(Event::Link(eth0(false, false), expected.clone()));
    assert_eq!(story.pass(SYSTEM_GRACE / 2), [""; 0]);
    let did = story.event(Event::Address(address(2, "192.0.2.99")));
    assert_eq!(did, ["“eth0: it has an address already; vestibule leaves it alone”", "silence 2", "leave-up 2"]);
    assert_eq!(story.configured_by().as_deref(), Some("system"));
    let mut story = Story::new("ip=dhcp");
    story.event(Event::Link(eth0(false, false), expected));
    assert_eq!(story.pass(SYSTEM_GRACE), ["up 2"]);
}

#[test]
fn renewal_changes_what_has_changed() {
    let mut story = Story::bound();
    assert_eq!(story.pass(SECOND * 60), ["send 2 3 to 192.0.2.1"]);
    let did = story.answer(dhcp::ACK, &[(dhcp::ROUTERS, &[192, 0, 2, 1]), (dhcp::NAMESERVERS, &[192, 0, 2, 53])]);
    assert_eq!(did, ["+192.0.2.7/24"], "its time only");
    story.pass(SECOND * 60);
    let did = story.answer(dhcp::ACK, &[(dhcp::ROUTERS, &[192, 0, 2, 254])]);
    assert_eq!(
        did,
        [
            "-0.0.0.0/0 via 192.0.2.1 metric 2050",
            "+192.0.2.7/24",
            "+0.0.0.0/0 via 192.0.2.254 metric 2050",
            "resolver []"
        ]
    );
}

#[test]
fn a_lost_lease_goes_with_all_that_came_with_it() {
    let mut story = Story::bound();
    story.pass(SECOND * 60);
    assert_eq!(
        story.answer(dhcp::NAK, &[(dhcp::REASON, b"moved\x1b[2J")]),
        [
            "-0.0.0.0/0 via 192.0.2.1 metric 2050",
            "-192.0.2.7/24",
            "listen 2",
            "“eth0: 192.0.2.7 is lost: 192.0.2.1 took it back (moved[2J)”",
            "broadcast 2 1",
        ]
    );
    assert_eq!(story.configured_by(), None);
}

#[test]
fn a_cable_out_and_in_asks_again_and_down_and_up_restores_the_routes() {
    let mut story = Story::bound();
    assert_eq!(story.link(eth0(true, false)), [""; 0]);
    assert_eq!(story.link(eth0(true, true)), ["send 2 3 to 255.255.255.255"]);
    story.link(link(2, "ens3", false, false));
    let did = story.link(link(2, "ens3", true, true));
    assert_eq!(did, ["+0.0.0.0/0 via 192.0.2.1 metric 2050", "send 2 3 to 255.255.255.255"]);
}

#[test]
fn an_interface_that_is_pulled_is_forgotten() {
    let mut story = Story::bound();
    assert_eq!(story.event(Event::LinkGone(2)), ["silence 2", "forget 2", "“eth0: gone”"]);
    assert!(story.plan.links().is_empty() && story.plan.deadline().is_none());
    let mut story = Story::bound();
    let links = vec![(link(3, "eth1", true, true), hardware())];
    let did = story.event(Event::Listed { links, addresses: Vec::new() });
    assert_eq!(did, ["silence 2", "forget 2", "“eth0: gone”", "listen 3", "broadcast 3 1"]);
}

#[test]
fn an_address_whose_going_was_missed_is_got_anew() {
    let mut story = Story::bound();
    let links = || vec![(eth0(true, true), hardware())];
    let still = vec![AddressSeen { permanent: true, ..address(2, "192.0.2.7") }];
    assert_eq!(story.event(Event::Listed { links: links(), addresses: still }), [""; 0]);
    let did = story.event(Event::Listed { links: links(), addresses: Vec::new() });
    assert_eq!(did[1..4], ["“eth0: 192.0.2.7 was removed by somebody else”", "listen 2", "broadcast 2 1"]);
}

#[test]
fn the_first_with_carrier() {
    let mut story = Story::new("ip=192.0.2.7:::24:::none");
    assert_eq!(story.link(eth0(false, false)), ["up 2"]);
    assert_eq!(story.link(link(3, "eth1", false, false)), ["up 3"]);
    assert_eq!(story.link(link(3, "eth1", true, true)), ["+192.0.2.7/24", "“eth1: 192.0.2.7/24, static”"]);
    assert_eq!(story.link(eth0(true, true)), [""; 0]);
    assert_eq!(story.plan.links()[0].note.as_deref(), Some("not used: another interface was first"));
}

#[test]
fn mtu_and_nameservers_of_the_command_line() {
    let mut story = Story::new("ip=192.0.2.7:::24::eth0:none:1400 nameserver=192.0.2.53 nameserver=192.0.2.53");
    let did = story.link(eth0(false, false));
    assert_eq!(did[..2], ["mtu 2 1500→1400", "up 2"]);
    assert_eq!(did[4], "resolver [192.0.2.53]");
}

#[test]
fn another_mac_address_asks_anew() {
    let mut story = Story::new("ip=dhcp");
    story.link(eth0(true, true));
    let did = story.link(LinkSeen { mac: Some([2, 0, 0, 0, 0, 99]), ..eth0(true, true) });
    assert_eq!(did, ["listen 2", "broadcast 2 1"]);
    assert_eq!(story.question.unwrap().mac, [2, 0, 0, 0, 0, 99]);
}

#[test]
fn a_failure_is_said_once() {
    let mut story = Story::bound();
    let mut fail = || story.event(Event::Failed { index: 2, why: "no buffer space".into() });
    assert_eq!(fail(), ["“eth0: no buffer space”"]);
    assert_eq!(fail(), [""; 0]);
    assert_eq!(story.plan.links()[0].note.as_deref(), Some("no buffer space"));
}

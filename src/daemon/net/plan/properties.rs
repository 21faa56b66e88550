//! What holds whatever happens: the plan never wants to be woken for what it has just been woken for.

use proptest::prelude::*;

use super::{
    super::{
        arp::Arp,
        dhcp::message::{self as dhcp, Message},
        owner::{NetworkManager, Networkd},
        step::Check,
    },
    *,
};
use crate::config::cmdline::CommandLine;

const LINES: [&str; 9] = [
    "ip=single-dhcp rd.route=default:192.0.2.1",
    "bond=bond0:eth0,eth1 vlan=enp1s0:bond0 ip=enp1s0:dhcp",
    "ifname=lan0:02:00:00:00:00:02 ip=lan0:dhcp ip=[2001:db8::7]:::64::lan0:none ip=eth1:either6",
    "ip=dhcp",
    "ip=eth0:dhcp",
    "ip=192.0.2.7::192.0.2.1:24:box::none",
    "ip=192.0.2.7::192.0.2.1:24:box:eth0:none:1400 ip=dhcp",
    "ip=192.0.2.7:::24:::none ip=eth1:dhcp",
    "ip=off",
];

/// What happens, and how long after the event before.
#[derive(Clone, Debug)]
enum Happening {
    Link(LinkSeen, Facts),
    Gone(u32),
    Address(AddressSeen, bool),
    /// A server answers the last question.
    Answer(u8),
    /// A station, or an interface of our own, has the address with this end.
    Arp(u32, u8, u8),
    Nothing,
}

fn link() -> impl Strategy<Value = LinkSeen> {
    let name = prop::sample::select(vec!["eth0", "eth1", "enp1s0", "bond0"]);
    let sort = prop::sample::select(vec![Sort::Ethernet, Sort::Ethernet, Sort::Veth, Sort::Made, Sort::Unfit]);
    (2..5u32, name, sort, any::<(bool, bool)>()).prop_map(|(index, name, sort, (up, carrier))| LinkSeen {
        index,
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, index as u8]),
        own_mac: Some([2, 0, 0, 0, 0, index as u8]),
        master: None,
        sort,
        up,
        carrier: up && carrier,
        mtu: 1500,
        router: None,
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let says = |state: &str| Networkd::Says(state.into());
    let states = vec![Networkd::Absent, Networkd::Absent, Networkd::Expected, says("unmanaged"), says("configured")];
    let managers = [NetworkManager::Absent, NetworkManager::Absent, NetworkManager::Expected, NetworkManager::Manages];
    let others = (prop::sample::select(states), prop::sample::select(managers.to_vec()));
    (any::<(bool, bool)>(), others).prop_map(|((udev_pending, device), (networkd, network_manager))| Facts {
        device,
        udev_pending,
        networkd,
        network_manager,
        ..Facts::default()
    })
}

fn address() -> impl Strategy<Value = AddressSeen> {
    (2..5u32, prop::sample::select(vec![7u8, 99])).prop_map(|(index, last)| AddressSeen {
        index,
        address: [192, 0, 2, last].into(),
        prefix: 24,
        global: true,
        permanent: true,
        advertised: false,
        check: Check::Passed,
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (link(), facts()).prop_map(|(link, facts)| Happening::Link(link, facts)),
        1 => (2..5u32).prop_map(Happening::Gone),
        2 => (address(), any::<bool>()).prop_map(|(address, comes)| Happening::Address(address, comes)),
        3 => prop::sample::select(vec![dhcp::OFFER, dhcp::ACK, dhcp::NAK]).prop_map(Happening::Answer),
        2 => (2..5u32, 2..8u8, prop::sample::select(vec![7u8, 99])).prop_map(|it| Happening::Arp(it.0, it.1, it.2)),
        1 => Just(Happening::Nothing),
    ]
}

/// A plan, and the last question of one of its DHCP clients.
struct World {
    plan: Plan,
    question: Option<(u32, Message)>,
}

impl World {
    fn handle(&mut self, now: Duration, event: Event) {
        for step in self.plan.handle(now, event) {
            if let Step::Broadcast(index, message) | Step::Send { index, message, .. } = step {
                self.question = Some((index, message));
            }
        }
    }

    fn event(&self, happening: Happening) -> Option<Event> {
        Some(match happening {
            Happening::Link(link, facts) => Event::Link(link, facts),
            Happening::Gone(index) => Event::LinkGone(index),
            Happening::Address(address, true) => Event::Address(address),
            Happening::Address(address, false) => Event::AddressGone(address),
            Happening::Answer(kind) => {
                let (index, question) = self.question.clone()?;
                let options = [(dhcp::MESSAGE_TYPE, vec![kind]), (dhcp::SERVER, vec![192, 0, 2, 1])];
                let options = options.into_iter().chain([(dhcp::LEASE_TIME, vec![0, 0, 0, 120])]).collect();
                let message = Message { reply: true, yours: [192, 0, 2, 7].into(), options, ..question };
                Event::Message { index, message }
            }
            Happening::Arp(index, mac, last) => {
                let (mac, address) = ([2, 0, 0, 0, 0, mac], [192, 0, 2, last].into());
                Event::Arp { index, message: Arp::announcement(mac, address) }
            }
            Happening::Nothing => return None,
        })
    }
}

proptest! {
    #[test]
    fn nothing_that_was_handled_is_due_again(
        line in prop::sample::select(LINES.to_vec()),
        story in prop::collection::vec((happening(), prop::sample::select(vec![0, 1, 50, 3000, 11_000, 70_000])), 1..30),
    ) {
        let (config, _) = NetworkConfig::parse(&CommandLine::parse(line));
        let mut world = World { plan: Plan::new(config, None, 1), question: None };
        let mut now = Duration::ZERO;
        for (happening, milliseconds) in story {
            let end = now + Duration::from_millis(milliseconds);
            while let Some(due) = world.plan.deadline().filter(|due| *due <= end) {
                now = now.max(due);
                world.handle(now, Event::Tick);
                prop_assert!(world.plan.deadline().is_none_or(|next| next > now), "due again at {now:?}");
            }
            now = end;
            if let Some(event) = world.event(happening) {
                world.handle(now, event);
            }
        }
    }
}
